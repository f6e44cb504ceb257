// SPDX-License-Identifier: Apache-2.0
#include "io/names/gru_names.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "io/file.hpp"
#include "io/names/foreign_names.hpp"

namespace gru {
namespace {

// Names → fields. A name is prefix + stem + place; the place is "_l{k}" or "_l{k}_reverse" (torch.nn.GRU), or nothing
// (torch.nn.GRUCell).
struct Field {
  std::string_view stem;
  bool is_bias;
};
constexpr std::array<Field, kCellFields> kFields = {Field{"weight_ih", false}, Field{"weight_hh", false},
                                                    Field{"bias_ih", true}, Field{"bias_hh", true}};
constexpr std::size_t kWeightIh = 0;
constexpr std::size_t kWeightHh = 1;

struct Place {
  std::size_t field;
  std::int64_t layer;  ///< kCell for GRUCell's names
  std::int64_t direction;
  auto operator<=>(const Place&) const = default;
};
constexpr std::int64_t kCell = -1;

struct Group {
  std::string prefix;
  std::map<Place, std::size_t> tensors;
  bool has_layers = false;  ///< names of torch.nn.GRU
  bool has_cell = false;    ///< names of torch.nn.GRUCell

  /// The layer as the names have it.
  std::int64_t named_layer(std::int64_t layer) const { return has_cell ? kCell : layer; }
  std::optional<std::size_t> find(const Place& place) const {
    const auto found = tensors.find(place);
    return found == tensors.end() ? std::nullopt : std::optional(found->second);
  }
};
using Groups = std::vector<const Group*>;

// "_l12_reverse" → layer 12, direction 1. The layer as torch writes it: no sign, no leading zero.
std::optional<std::pair<std::int64_t, std::int64_t>> parse_suffix(std::string_view suffix) {
  if (suffix.empty()) return std::pair{kCell, std::int64_t{0}};
  if (!suffix.starts_with("_l")) return std::nullopt;
  suffix.remove_prefix(2);
  constexpr std::size_t kMostDigits = 6;
  const std::size_t digits = std::min(suffix.find_first_not_of("0123456789"), suffix.size());
  if (digits == 0 || digits > kMostDigits || (digits > 1 && suffix.front() == '0')) return std::nullopt;
  std::int64_t layer = 0;
  for (const char digit : suffix.substr(0, digits)) layer = 10 * layer + (digit - '0');
  suffix.remove_prefix(digits);
  if (suffix.empty()) return std::pair{layer, std::int64_t{0}};
  if (suffix == "_reverse") return std::pair{layer, std::int64_t{1}};
  return std::nullopt;
}

std::optional<Place> parse_name(std::string_view last) {
  for (std::size_t field = 0; field < kFields.size(); ++field) {
    if (!last.starts_with(kFields[field].stem)) continue;
    const auto place = parse_suffix(last.substr(kFields[field].stem.size()));
    if (place) return Place{field, place->first, place->second};
  }
  return std::nullopt;
}

std::string name_at(const Group& group, const Place& place) {
  const std::string suffix =
      place.layer == kCell ? "" : fmt::format("_l{}{}", place.layer, place.direction == 1 ? "_reverse" : "");
  return printable(fmt::format("{}{}{}", group.prefix, kFields[place.field].stem, suffix));
}

std::string show(const std::vector<std::int64_t>& extents) { return fmt::format("({})", fmt::join(extents, ", ")); }

enum class CellKind : std::uint8_t { gru, lstm, rnn, unclear };

CellKind kind_of(const std::vector<std::int64_t>& weight_hh) {
  if (weight_hh.size() != 2 || weight_hh[1] < 1) return CellKind::unclear;
  const std::int64_t ratio = weight_hh[0] / weight_hh[1];
  if (weight_hh[0] % weight_hh[1] != 0) return CellKind::unclear;
  return ratio == 3 ? CellKind::gru : ratio == 4 ? CellKind::lstm : ratio == 1 ? CellKind::rnn : CellKind::unclear;
}

/// The search and everything it can find wrong.
class Finder {
 public:
  Finder(const std::vector<TensorInfo>& tensors, std::string_view where) : tensors_(tensors), where_(where) {}

  GruTensors find(const WeightOptions& options) {
    collect();
    const Group& group = options.prefix ? named(*options.prefix) : only_one();
    GruTensors found;
    found.config = infer(group);
    found.config.reset_after = options.reset_after;
    check_extents(group, found.config);
    for (std::int64_t layer = 0; layer < found.config.num_layers; ++layer) {
      for (std::int64_t d = 0; d < found.config.num_directions(); ++d) {
        auto& cell = found.cells.emplace_back();
        for (std::size_t f = 0; f < kCellFields; ++f) cell[f] = group.find({f, group.named_layer(layer), d});
      }
    }
    return found;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(fmt::format("{}: {}", where_, what)); }

  void collect() {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const std::string& name = tensors_[i].name;
      const std::size_t dot = name.rfind('.');
      const std::size_t prefix_size = dot == std::string::npos ? 0 : dot + 1;
      const auto place = parse_name(std::string_view(name).substr(prefix_size));
      if (!place) continue;
      Group& group = groups_[name.substr(0, prefix_size)];
      group.prefix = name.substr(0, prefix_size);
      (place->layer == kCell ? group.has_cell : group.has_layers) = true;
      if (!group.tensors.emplace(*place, i).second) fail(fmt::format("two tensors are called '{}'", printable(name)));
    }
  }

  const Group& named(std::string prefix) const {
    if (!prefix.empty() && !prefix.ends_with('.')) prefix += '.';
    const auto found = groups_.find(prefix);
    if (found != groups_.end()) return found->second;
    if (groups_.empty()) fail_without_names();
    fail(fmt::format("no tensor is called '{}weight_ih_l0'; the prefixes with such names are: {}", printable(prefix),
                     list(all_groups())));
  }

  const Group& only_one() const {
    if (groups_.empty()) fail_without_names();
    if (groups_.size() == 1) return groups_.begin()->second;
    Groups grus;
    for (const auto& [prefix, group] : groups_) {
      if (kind(group) == CellKind::gru) grus.push_back(&group);
    }
    if (grus.size() > 1) fail(fmt::format("holds {} GRUs; say which with a prefix: {}", grus.size(), list(grus)));
    if (grus.empty()) fail(fmt::format("holds no complete GRU; what comes near: {}", list(all_groups())));
    return *grus.front();
  }

  Groups all_groups() const {
    Groups all;
    for (const auto& [prefix, group] : groups_) all.push_back(&group);
    return all;
  }

  [[noreturn]] void fail_without_names() const {
    if (const std::string foreign = foreign_names(tensors_); !foreign.empty()) fail(foreign);
    constexpr std::size_t kShown = 5;
    std::string names;
    for (std::size_t i = 0; i < std::min(tensors_.size(), kShown); ++i) {
      names += fmt::format("{}'{}'", i > 0 ? ", " : "", printable(tensors_[i].name));
    }
    if (tensors_.size() > kShown) names += fmt::format(" and {} more", tensors_.size() - kShown);
    fail(fmt::format(
        "holds no GRU: no tensor is called weight_ih_l0 or weight_ih, with or without a prefix; there are {}",
        names.empty() ? "no tensors" : names));
  }

  std::string list(const Groups& groups) const {
    constexpr std::size_t kShown = 12;
    constexpr std::array kWords = {"GRU", "LSTM", "plain RNN", "incomplete"};
    std::string text;
    for (std::size_t i = 0; i < std::min(groups.size(), kShown); ++i) {
      text += fmt::format("{}'{}' ({})", i > 0 ? ", " : "", printable(groups[i]->prefix),
                          kWords[static_cast<std::size_t>(kind(*groups[i]))]);
    }
    return groups.size() > kShown ? fmt::format("{} and {} more", text, groups.size() - kShown) : text;
  }

  CellKind kind(const Group& group) const {
    const auto weight_hh = group.find({kWeightHh, group.named_layer(0), 0});
    return weight_hh ? kind_of(tensors_[*weight_hh].extents) : CellKind::unclear;
  }

  const std::vector<std::int64_t>& require(const Group& group, const Place& place, const std::string& because) const {
    const auto at = group.find(place);
    if (!at) fail(fmt::format("tensor '{}' is missing{}", name_at(group, place), because));
    return tensors_[*at].extents;
  }

  /// The sizes, from weight_hh of the first layer and the names that are there.
  Config infer(const Group& group) const {
    if (const std::string foreign = foreign_biases(tensors_, group.prefix); !foreign.empty()) fail(foreign);
    if (group.has_cell && group.has_layers) {
      fail(
          fmt::format("'{}' has names of torch.nn.GRU (weight_ih_l0) and of torch.nn.GRUCell (weight_ih) together; "
                      "store one of them under another prefix",
                      printable(group.prefix)));
    }
    const std::int64_t first = group.named_layer(0);
    const auto& weight_ih = require(group, {kWeightIh, first, 0}, ", the first layer's");
    const auto& weight_hh = require(group, {kWeightHh, first, 0}, ", the first layer's");
    check_gates(group, weight_hh);
    if (weight_ih.size() != 2 || weight_ih[1] < 1) {
      fail(fmt::format("tensor '{}': expected (3H, I) with I >= 1, got {}", name_at(group, {kWeightIh, first, 0}),
                       show(weight_ih)));
    }
    Config config;
    config.input_size = weight_ih[1];
    config.hidden_size = weight_hh[1];
    config.bias = false;
    for (const auto& [place, index] : group.tensors) {
      config.num_layers = std::max(config.num_layers, place.layer + 1);
      config.bidirectional = config.bidirectional || place.direction == 1;
      config.bias = config.bias || kFields[place.field].is_bias;
    }
    return config;
  }

  void check_gates(const Group& group, const std::vector<std::int64_t>& weight_hh) const {
    const std::string name = name_at(group, {kWeightHh, group.named_layer(0), 0});
    switch (kind_of(weight_hh)) {
      case CellKind::gru: return;
      case CellKind::lstm:
        fail(fmt::format("this looks like an LSTM, not a GRU: '{}' is {}, four gates (4H, H); a GRU has three (3H, H)",
                         name, show(weight_hh)));
      case CellKind::rnn:
        fail(fmt::format("this looks like a plain RNN, not a GRU: '{}' is {}, no gates (H, H); a GRU has three (3H, H)",
                         name, show(weight_hh)));
      case CellKind::unclear: fail(fmt::format("tensor '{}': expected (3H, H), got {}", name, show(weight_hh)));
    }
  }

  /// Every tensor that the config asks for: there, of a floating type, of the right extents.
  void check_extents(const Group& group, const Config& config) const {
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
      const std::int64_t named = group.named_layer(layer);
      bool any = false;
      for (std::size_t f = 0; f < kCellFields; ++f) any = any || group.find({f, named, 0}) || group.find({f, named, 1});
      if (!any) {
        fail(fmt::format("layer {} is missing ('{}'), but there is a layer {}", layer,
                         name_at(group, {kWeightIh, named, 0}), config.num_layers - 1));
      }
      for (std::int64_t d = 0; d < config.num_directions(); ++d) check_cell(group, config, layer, d);
    }
  }

  void check_cell(const Group& group, const Config& config, std::int64_t layer, std::int64_t direction) const {
    const std::int64_t rows = 3 * config.hidden_size;
    for (std::size_t f = 0; f < kCellFields; ++f) {
      const Place place{f, group.named_layer(layer), direction};
      if (kFields[f].is_bias && !config.bias) continue;
      require(group, place,
              kFields[f].is_bias ? ", but other biases are there: a GRU has all of them or none"
              : direction == 1   ? ", but other tensors have a reverse direction: all layers have it or none"
                                 : "");
      const TensorInfo& tensor = tensors_[*group.find(place)];
      if (!tensor.problem.empty()) fail(fmt::format("tensor '{}' {}", name_at(group, place), tensor.problem));
      if (!tensor.dtype || *tensor.dtype == DType::int32 || *tensor.dtype == DType::int64) {
        fail(fmt::format("tensor '{}' holds {}; expected float32, float64, float16 or bfloat16", name_at(group, place),
                         printable(tensor.dtype_name)));
      }
      std::vector<std::int64_t> expected = {rows};
      if (f == kWeightIh) expected.push_back(config.layer_input_size(layer));
      if (f == kWeightHh) expected.push_back(config.hidden_size);
      if (tensor.extents != expected) {
        fail(fmt::format("tensor '{}': expected {} (hidden size {} by '{}'), got {}", name_at(group, place),
                         show(expected), config.hidden_size, name_at(group, {kWeightHh, group.named_layer(0), 0}),
                         show(tensor.extents)));
      }
    }
  }

  const std::vector<TensorInfo>& tensors_;
  std::string where_;
  std::map<std::string, Group> groups_;  // by prefix
};

}  // namespace

bool is_gru_name(std::string_view last) { return parse_name(last).has_value(); }

GruTensors find_gru(const std::vector<TensorInfo>& tensors, const WeightOptions& options, std::string_view where) {
  return Finder(tensors, where).find(options);
}

}  // namespace gru
