/* Compares float32 results with functions of the C library in long double. */
#include <math.h>
#include <stdint.h>

static long double function(int number, long double x) {
    const long double k = 2 * sqrtl(2 / acosl(-1.0L));
    switch (number) {
    case 0: return expl(x);
    case 1: return logl(x);
    case 2: return sqrtl(x);
    case 3: return erfl(x);
    case 4: return tanhl(x);
    case 5: return 1 / (1 + expl(-x));
    case 6: return x > 0 ? x + log1pl(expl(-x)) : log1pl(expl(x));
    case 7: return x / (1 + expl(-x));
    case 8: return x / 2 * erfcl(-x * sqrtl(0.5L));
    case 9: return x / (1 + expl(-k * (x + 0.044715L * x * x * x)));
    default: return 1 / sqrtl(x);
    }
}

/* Returns the largest error in units in the last place of the result, or infinity for a wrong NaN or infinity. */
double largest_error(int number, const float *x, const float *y, int64_t n) {
    double largest = 0;
#pragma omp parallel for reduction(max : largest)
    for (int64_t i = 0; i < n; i++) {
        const long double exact = function(number, x[i]);
        const float size = fabsf(y[i]);
        double error;
        if (isnan(y[i]) || isnan(exact)) error = isnan(y[i]) && isnan(exact) ? 0 : INFINITY;
        else if (isinf(y[i])) error = (float)exact == y[i] ? 0 : INFINITY;
        else error = (double)(fabsl(y[i] - exact) / (nextafterf(size, INFINITY) - size));
        if (error > largest) largest = error;
    }
    return largest;
}
