// The window format: rows that advance together over the columns.
//
// Eight or sixteen rows (a group) are multiplied in lockstep. One step gives each of them four slots; a slot is a value
// and a byte, the value's column relative to the step's base. Sixteen rows share what a step costs, the look-ups of the
// input above all, but wait for each other more often; processors with vectors of 64 bytes gain by them. The base only
// ever moves forward, by `advance` columns before each step. A row whose entries lie ahead of the others' fills its
// slots from up to `window` columns beyond the base, so that few slots stay empty, more so as rows of similar length,
// and with the middle of their entries at similar columns, are put in one group. Nothing depends on the data in a
// kernel: no row has an end of its own, no branch is mispredicted, no sum runs over lanes before a group ends; the
// input's window fits the look-up instructions of a processor (int8) or at least its fastest cache, at addresses that
// do not depend on the previous entry.
//
//   parameter[0]  window: the narrowest of 64, 128 and 256 columns that holds all slots. The encoder takes 64 or 128,
//                 whichever promises the lower latency; the option "window" makes it take another
//   parameter[1]  lanes: rows of a group, 8 or 16 (option "lanes"; 8 where a file does not tell)
//   units         groups: ceil(rows / lanes)
//   order         (rows,): lane l of group g is row order[lanes * g + l]; a permutation. The last group may have fewer
//                 lanes: the slots of those that are missing are empty
//   starts        (groups + 1,): first step of each group
//   advance       (steps,): base of a group's first step: its advance; of any other: the previous base + its advance
//   slots         (steps, lanes, 4): for each lane, four columns relative to the base of the step, < window
//   values        (steps, lanes, 4): the weights at these columns; (steps, lanes, 2) for int4
//
// Column base + slot < columns for every slot, and base + window <= padded(columns): a kernel may load a whole window
// of the input at the base. The weights of a lane have strictly ascending columns (so int8 sums cannot overflow); an
// empty slot is column 0 of the window with a value of zero, and follows the filled ones of its lane and step. A group
// without weights has no steps. Where no row has a weight for more than 255 columns, a step may be empty but for its
// advance.
#pragma once

#include "base/format.hpp"

namespace cspbench {

constexpr int kWindowSlots = 4;  // of a lane, in a step
// A group has the lanes of one part or of two; a step has the slots of its first part, then of its second.
constexpr int kPartLanes = 8;
constexpr int kPartSlots = kPartLanes * kWindowSlots;
constexpr int kMostWindowLanes = 2 * kPartLanes;
constexpr int kMostWindowSlots = 2 * kPartSlots;  // of a step

}  // namespace cspbench
