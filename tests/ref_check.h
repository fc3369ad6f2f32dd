/* tests/ref_check.h - what the tests of ref/ share: comparison of doubles, and central differences.
 * A central difference (f(x+e) - f(x-e)) / 2e misses the derivative by f'''(x) e^2 / 6 and by the rounding of
 * f over e. The sums here have values near 1..100, so with e = 1e-5 both parts are near 1e-9 of the largest
 * gradient of a tensor; BOUND leaves a factor of 100 for large third derivatives (softmax, 1/rms of few
 * values). */
#ifndef TESTS_REF_CHECK_H
#define TESTS_REF_CHECK_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEP  1e-5
#define BOUND 1e-7

#define assert_near(actual, expected, bound) check_near((actual), (expected), (bound), __FILE__, __LINE__)
static inline void check_near(double actual, double expected, double bound, const char *file, int line) {
    if (!(fabs(actual - expected) <= bound)) {
        print_error("%.17g is not within %g of %.17g\n", actual, bound, expected);
        _fail(file, line);
    }
}

/* The function under test as a number: a fixed weighting of its output, or a loss. */
typedef double (*scalar_fn)(void *context);

/* Compares g[n] with differences of f in p[n], at every `stride`-th value. */
static inline void check_gradient(const char *name, double *p, const double *g, long n, long stride,
                                  scalar_fn f, void *context) {
    double largest = 1e-3;
    for (long i = 0; i < n; i++) largest = fmax(largest, fabs(g[i]));
    for (long i = 0; i < n; i += stride) {
        double keep = p[i];
        p[i] = keep + STEP;
        double up = f(context);
        p[i] = keep - STEP;
        double down = f(context);
        p[i] = keep;
        double expected = (up - down) / (2 * STEP);
        if (!(fabs(g[i] - expected) <= BOUND * largest))
            fail_msg("%s[%ld]: backward %.12g, difference %.12g, largest %.3g", name, i, g[i], expected,
                     largest);
    }
}

#endif
