/* One symbol per variant, so that the run-time choice sees which variants were built. */
#define CONCAT2(a, b) a##b
#define CONCAT(a, b) CONCAT2(a, b)
int CONCAT(mpsim_built_, VARIANT)(void) { return 1; }
