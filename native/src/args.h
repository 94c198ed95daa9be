// The structures that entry points take, the same for all instruction sets.
#pragma once
#include <stdint.h>
