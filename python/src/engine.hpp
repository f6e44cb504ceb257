#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gru/call.hpp"
#include "gru/problem.hpp"
#include "gru/weights.hpp"

namespace gru::python {

/// Something that plans can be made for: "cpu", "cuda:0", ...
struct DeviceRow {
  std::string name;
  DeviceInfo info;
  std::vector<std::string> backends;  ///< in the order in which they are asked
};

/// A plan whose space was chosen at run time, for one caller at a time. What it computes on a GPU is launched on the
/// stream that each call names.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual void execute(const Call& call, std::uintptr_t stream) = 0;
  virtual void step(const ConstTensorView& x, const ConstTensorView& h_in, const TensorView& h_out,
                    std::uintptr_t stream) = 0;
  /// Waits for what was launched last; throws gru::Error if the device reports one.
  virtual void wait() = 0;
  virtual bool is_cuda() const = 0;
  virtual int device() const = 0;
  virtual const Problem& problem() const = 0;
  virtual std::string backend() const = 0;
  virtual std::string why() const = 0;
  virtual std::size_t workspace_bytes() const = 0;
};

/// device: "auto" (the first GPU whose plan can be made, else the host), "cpu", "cuda", "cuda:1". The first plan of a
/// process initialises Kokkos if nobody has. Throws gru::Error.
std::shared_ptr<Engine> make_engine(const std::string& device, const Weights& weights, const PlanOptions& options);

std::vector<DeviceRow> devices();

/// Ends what make_engine began: all plans lose their memory, and Kokkos is finalised if it was initialised here.
void shut_down();

}  // namespace gru::python
