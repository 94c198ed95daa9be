// The structure of mixing_texts.h: see args.h.
#pragma once
#include <stdint.h>

// A table of texts that a mixing coder codes, cell by cell, row by row.
struct MixingTable {
  uint8_t *text;             // all cells, each with a zero behind it
  int64_t room, used;        // bytes of it; where it ends
  int64_t n_rows, n_columns; // of the table
  int64_t longest;           // bytes of a cell, without its zero
};
