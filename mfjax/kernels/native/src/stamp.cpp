// What this library was built from; the loader wants it to be what it finds.
#include "call.h"

extern "C" MFJAX_EXPORT const char* mfjax_stamp() { return MFJAX_STAMP; }
