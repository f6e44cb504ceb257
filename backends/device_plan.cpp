// SPDX-License-Identifier: Apache-2.0
#include "gru/device_plan.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "backends/any_plan_impl.hpp"
#include "backends/device_seats.hpp"
#include "gru/error.hpp"
#include "src/format.hpp"

namespace gru {
namespace {

TensorView view_at(void* data, const ConstTensorView& shape) {
  return {data, shape.dtype, shape.rank, shape.extents, contiguous_strides(shape.rank, shape.extents)};
}

TensorView shape_of(DType dtype, const std::vector<std::int64_t>& extents) {
  if (extents.empty() || extents.size() > 3) {
    throw Error(fmt::format("gru::DeviceBuffer: expected 1 to 3 extents, got {}", extents.size()));
  }
  TensorView view{nullptr, dtype, static_cast<int>(extents.size()), {}, {}};
  std::ranges::copy(extents, view.extents.begin());
  for (const std::int64_t extent : extents) {
    if (extent < 0) throw Error("gru::DeviceBuffer: negative extents " + format_extents(view.rank, view.extents));
  }
  view.strides = contiguous_strides(view.rank, view.extents);
  return view;
}

bool is_row_major(const ConstTensorView& view) {
  const Dims expected = contiguous_strides(view.rank, view.extents);
  for (std::size_t d = 0; d < static_cast<std::size_t>(view.rank); ++d) {
    if (view.extents[d] > 1 && view.strides[d] != expected[d]) return false;
  }
  return true;
}

void upload(const AnySpace& space, const TensorView& to, const ConstTensorView& host) {
  const std::size_t bytes = size_bytes_of(host);
  if (bytes == 0) return;
  if (is_row_major(host)) return space.copy_in(to.data, host.data, bytes);
  space.copy_in(to.data, convert(host, host.dtype).bytes(), bytes);
}

// Whatever else than an Error comes out of the space is one: std::bad_alloc, or what Kokkos throws in its place.
std::shared_ptr<void> allocate(const AnySpace& space, std::size_t bytes) {
  try {
    return space.allocate("gru::DeviceBuffer", bytes);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(
        fmt::format("gru::DeviceBuffer: {} bytes could not be allocated: {}; free some memory, or use smaller "
                    "extents",
                    bytes, error.what()));
  }
}

}  // namespace

std::vector<BackendAnswer> ask(const Device& device, const Config& config, const PlanOptions& options) {
  const std::vector<Seat> seats = seats_of(device);
  const Names names(seats, options.backend);
  apply_profile({}, options.device_profile);
  validate(Problem{config, options, {}});
  std::vector<BackendAnswer> answers;
  for (const Seat& seat : seats) {
    std::shared_ptr<AnySpace> space;
    Support absent;
    for (const Candidate& candidate : seat.candidates) {
      if (!names.ask(seat, candidate)) continue;
      if (!space && absent.reason.empty()) {
        try {
          space = seat.instance();
        } catch (const DeviceRefusal& refusal) {
          absent = Support::no(refusal.what());
        }
      }
      BackendAnswer answer{space ? space->device_name() : "", seat.space, candidate.name, space && space->is_host(),
                           absent};
      if (space) answer.support = candidate.ask(problem_on(*space, config, options)).support;
      answers.push_back(std::move(answer));
    }
  }
  return answers;
}

DevicePlan::DevicePlan(const Device& device, const Weights& weights, const PlanOptions& options)
    : AnyPlan(plan_with(seats_of(device), weights, options)), device_(device) {
  if (!device_.is_auto()) return;
  device_ = Device(space()->device_name(), space()->device_index(), space()->is_host(), problem().device);
}

DevicePlan::DevicePlan(Device device, AnyPlan plan) : AnyPlan(std::move(plan)), device_(std::move(device)) {}

DevicePlan DevicePlan::fork() const {
  return DevicePlan(device_, AnyPlan::fork(space_kind(space()->type()).make_instance(device_.index())));
}

Results DevicePlan::run(const ConstTensorView& x, const ConstTensorView& h0, const ConstTensorView& lengths) {
  const Problem& planned = problem();
  check_host_lengths(canonical(Call{.x = x, .h0 = h0, .lengths = lengths}, planned));
  Results results{Tensor(planned.options.dtype, output_extents(x)), Tensor(planned.options.dtype, h_n_extents(x))};
  if (device_.is_host()) {
    execute({.x = x, .h0 = h0, .lengths = lengths, .output = results.output.view(), .h_n = results.h_n.view()});
    wait();
    return results;
  }
  const std::array<ConstTensorView, 5> shapes = {x, h0, lengths, results.output.view(), results.h_n.view()};
  std::array<std::size_t, 6> offsets{};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    offsets[i + 1] = offsets[i] + (size_bytes_of(shapes[i]) + 256) / 256 * 256;  // 256 at least: an address of its own
  }
  if (offsets.back() > staging_bytes_) {
    staging_bytes_ = 0;
    staging_.reset();
    staging_ = allocate(*space(), offsets.back());
    staging_bytes_ = offsets.back();
  }
  std::array<TensorView, 5> there{};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (!shapes[i].given()) continue;
    there[i] = view_at(static_cast<std::byte*>(staging_.get()) + offsets[i], shapes[i]);
    if (i < 3) upload(*space(), there[i], shapes[i]);
  }
  execute({.x = there[0], .h0 = there[1], .lengths = there[2], .output = there[3], .h_n = there[4]});
  wait();
  const auto download = [&](Tensor& to, const TensorView& from) {
    if (to.size_bytes() > 0) space()->copy_out(to.bytes(), from.data, to.size_bytes());
  };
  download(results.output, there[3]);
  download(results.h_n, there[4]);
  return results;
}

DeviceBuffer::DeviceBuffer(std::shared_ptr<AnySpace> space, DType dtype, const std::vector<std::int64_t>& extents)
    : space_(std::move(space)), view_(shape_of(dtype, extents)) {
  space_->require_ready();
  // One element at least: an empty tensor still has an address that is the space's.
  const std::size_t bytes = std::max(size_bytes_of(view_), size_of(dtype));
  memory_ = allocate(*space_, bytes);
  view_.data = memory_.get();
  space_->set_zero(view_.data, bytes);
  space_->fence();  // the memory may be used on any instance from here on
}

DeviceBuffer::DeviceBuffer(std::shared_ptr<AnySpace> space, const Tensor& host)
    : DeviceBuffer(std::move(space), host.dtype(), host.extents()) {
  copy_in(host.bytes());
}

std::size_t DeviceBuffer::size_bytes() const { return view_.given() ? size_bytes_of(view_) : 0; }

void DeviceBuffer::copy_in(const void* host) {
  if (size_bytes() > 0) space_->copy_in(view_.data, host, size_bytes());
}

void DeviceBuffer::copy_out(void* host) const {
  if (size_bytes() > 0) space_->copy_out(host, view_.data, size_bytes());
}

Tensor DeviceBuffer::to_host() const {
  Tensor host(view_.dtype, std::vector<std::int64_t>(view_.extents.begin(), view_.extents.begin() + view_.rank));
  copy_out(host.bytes());
  return host;
}

}  // namespace gru
