/* Curves as SVG: well-formed, inside the picture, readable numbers, gaps. */
#include "base/os.h"
#include "report/curve.h"
#include "report/svg_text.h"
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static graft_error err;

/* Every tag is closed in order, attributes are quoted, text has no bare markup. */
static void assert_well_formed(const char *xml) {
    char open[16][24];
    int depth = 0;
    for (const char *p = xml; *p;) {
        if (*p != '<') {
            assert_true(*p != '>');
            if (*p == '&') assert_non_null(strchr(p, ';'));
            p++;
            continue;
        }
        const char *end = strchr(p, '>');
        char name[24] = "";
        assert_non_null(end);
        if (p[1] == '/') {
            assert_true(depth > 0);
            depth--;
            assert_memory_equal(p + 2, open[depth], strlen(open[depth]));
            assert_true(p[2 + strlen(open[depth])] == '>');
        } else {
            assert_int_equal(sscanf(p + 1, "%23[a-z]", name), 1);
            int quotes = 0;
            for (const char *q = p; q < end; q++) quotes += *q == '"';
            assert_int_equal(quotes % 2, 0);
            if (end[-1] != '/') {
                assert_true(depth < 16);
                memcpy(open[depth++], name, sizeof name);
            }
        }
        p = end + 1;
    }
    assert_int_equal(depth, 0);
}

/* Every coordinate of lines and markers lies in the 760 x 440 picture. */
static void assert_inside(const char *svg) {
    for (const char *p = svg; (p = strstr(p, "points=\"")) != NULL;) {
        p += 8;
        double x, y;
        int used;
        while (sscanf(p, "%lf,%lf%n", &x, &y, &used) == 2) {
            assert_true(x >= 72 && x <= 650 && y >= 64 && y <= 382);
            p += used;
        }
        assert_true(*p == '"');
    }
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++) n++;
    return n;
}

static gr_series series_of(const char *name, const double *x, const double *y, size_t n, bool points) {
    return (gr_series){.name = name, .x = x, .y = y, .count = n, .points = points};
}

static char *draw(const gr_series *series, size_t n) {
    gr_buf out = {0};
    gr_error_clear(&err);
    assert_int_equal(gr_curve_svg(&out, "a <b> & \"c\"", "iteration", "loss", series, n, &err), GRAFT_OK);
    assert_well_formed(out.data);
    assert_inside(out.data);
    return gr_buf_take(&out);
}

static void two_series(void **state) {
    (void)state;
    double x[] = {10, 20, 30, 40, 50}, y[] = {3.2, 2.5, NAN, 2.1, 2.04321}, vx[] = {0, 50},
           vy[] = {3.5, 2.25};
    gr_series series[] = {series_of("training", x, y, 5, false), series_of("validation", vx, vy, 2, true)};
    char *svg = draw(series, 2);
    assert_int_equal(count(svg, "<polyline"), 3); /* the gap makes two of the first */
    assert_int_equal(count(svg, "<circle"), 2);
    assert_non_null(strstr(svg, "a &lt;b&gt; &amp; &quot;c&quot;"));
    assert_non_null(strstr(svg, ">2.043<")); /* last values */
    assert_non_null(strstr(svg, ">2.250<"));
    assert_non_null(strstr(svg, ">3.5<")); /* ticks */
    assert_non_null(strstr(svg, ">50<"));
    free(svg);
}

static void few_points(void **state) {
    (void)state;
    double x[] = {1}, y[] = {2};
    gr_series one = series_of("training", x, y, 1, false), none = series_of("training", NULL, NULL, 0, false);
    char *svg = draw(&one, 1);
    assert_int_equal(count(svg, "<circle"), 1);
    free(svg);
    svg = draw(&none, 1);
    assert_non_null(strstr(svg, "no values yet"));
    free(svg);
    free(draw(NULL, 0));
}

static void strange_values(void **state) {
    (void)state;
    static const double values[][4] = {{1e300, -1e300, 0, 5},
                                       {0, 0, 0, 0},
                                       {1e-300, 2e-300, 3e-300, 1e-299},
                                       {1e15, 1e15 + 1, 1e15, 1},
                                       {INFINITY, NAN, 1, 2},
                                       {5, 5, 5, 5},
                                       {-1e308, -1e308, -1e308, -1e308},
                                       {1e308, 1e308, 1e308, 1e308},
                                       {-3, -2, -1, -4},
                                       {1e-7, 2e-7, 3e-7, 0},
                                       {1.7e308, -1.7e308, 1, 2}};
    double x[] = {0, 1, 2, 3};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        gr_series s = series_of("s", x, values[i], 4, true);
        free(draw(&s, 1));
        gr_series turned = series_of("s", values[i], x, 4, true);
        free(draw(&turned, 1));
    }
}

static void numbers(void **state) {
    (void)state;
    static const struct {
        double v;
        int decimals;
        const char *text;
    } cases[] = {{1.005, 1, "1.0"},   {-0.25, 2, "-0.25"},     {0, 0, "0"},       {-0.001, 2, "0.00"},
                 {12345, 0, "12345"}, {1.5e20, 2, "1.50e+20"}, {0.999, 2, "1.00"}};
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where it exists, a comma must not appear */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_buf out = {0};
        gr_svg_number(&out, cases[i].v, cases[i].decimals);
        assert_string_equal(out.data, cases[i].text);
        gr_buf_free(&out);
    }
    setlocale(LC_ALL, "C");
}

static void from_metrics(void **state) {
    (void)state;
    static const char metrics[] = "{\"iteration\": 0, \"val_loss\": 3.5, \"val_time\": 1}\n"
                                  "{\"iteration\": 10, \"train_loss\": 3.1, \"grad_norm\": 1}\n"
                                  "{\"iteration\": 20, \"train_loss\": null}\n\n"
                                  "{\"iteration\": 30, \"train_loss\": 2.5}\n"
                                  "{\"iteration\": 30, \"val_loss\": 2.75}";
    char in[64], out[64];
    snprintf(in, sizeof in, "test_curve_%d.jsonl", (int)getpid());
    snprintf(out, sizeof out, "test_curve_%d.svg", (int)getpid());
    gr_error_clear(&err);
    assert_int_equal(gr_file_replace(in, metrics, sizeof metrics - 1, &err), GRAFT_OK);
    assert_int_equal(gr_curve_from_metrics(in, out, "run", &err), GRAFT_OK);
    char *svg;
    size_t size;
    assert_int_equal(gr_file_read(&svg, &size, out, 1 << 20, &err), GRAFT_OK);
    assert_well_formed(svg);
    assert_int_equal(count(svg, "<polyline"), 3);
    assert_int_equal(count(svg, "<circle"), 4); /* two validations, two lonely points */
    free(svg);
    assert_int_equal(gr_file_replace(in, "{\"iteration\": 1}\n{broken\n", 25, &err), GRAFT_OK);
    assert_int_equal(gr_curve_from_metrics(in, out, "run", &err), GRAFT_CORRUPT);
    assert_non_null(strstr(err.where, "line 2"));
    unlink(in);
    unlink(out);
    gr_error_clear(&err);
    assert_int_equal(gr_curve_from_metrics(in, out, "run", &err), GRAFT_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_series), cmocka_unit_test(few_points),   cmocka_unit_test(strange_values),
        cmocka_unit_test(numbers),    cmocka_unit_test(from_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
