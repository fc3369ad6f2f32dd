#include "base/number.h"
#include "report/chart.h"
#include "report/page_parts.h"
#include "report/svg_text.h"
#include <math.h>
#include <stdio.h>
#include <time.h>

/* Contrast of text on its ground is above 7:1 in both schemes, on the darkest shade of the heat map
 * above 4.5. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--ground:#fff;--card:#f6f8fa;--text:#1b1f24;--quiet:#4d555e;--rule:#d0d7de;"
    "--heat:0,114,178}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1c2127;--text:#e6e9ec;--quiet:#a3adb8;"
    "--rule:#343b43}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--ground);"
    "color:var(--text);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\n"
    "h1{font-size:1.5rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .6rem}"
    ".ask{color:inherit;font-weight:600;white-space:pre-wrap;margin-top:1rem}h3{font-size:1rem;font-weight:"
    "600;margin:0 0 .3rem}p,.quiet{color:var(--quiet);margin:.2rem 0}\n"
    ".tiles,.charts{display:grid;gap:.8rem}.tiles{grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));"
    "margin:1rem 0}.charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}\n"
    ".tile,figure,pre{background:var(--card);border:1px solid var(--rule);border-radius:8px;margin:0;"
    "padding:.6rem .8rem}.tile b{display:block;font-size:1.35rem;line-height:1.3}"
    ".tile span{color:var(--quiet);font-size:.85rem}\n"
    "figure svg{display:block;width:100%;height:auto;max-width:34rem}"
    ".key{color:var(--quiet);font-size:.85rem;margin-right:1rem;white-space:nowrap}"
    ".key svg{display:inline;width:22px;height:8px;margin-right:.35rem;vertical-align:middle}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem}"
    "th,td{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top;border-bottom:1px solid "
    "var(--rule);"
    "}td{overflow-wrap:anywhere}th{font-weight:600}td.n,th.n{text-align:right;white-space:nowrap}\n"
    ".heat td,.heat th{padding:.15rem .4rem;text-align:right;border:1px solid var(--ground);"
    "font-size:.8rem;overflow-wrap:normal}\n"
    ".two{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;font:.9rem/1.5 ui-monospace,monospace}\n"
    "summary{cursor:pointer;font-weight:600;margin:.6rem 0}.note{border-left:4px solid #d55e00;padding:.2rem "
    ".8rem;"
    "margin:.5rem 0;background:var(--card)}\n";

/* What was unfolded stays so. */
static const char script[] =
    "<script>\n"
    "(function(){var "
    "main=document.getElementById('main'),state=document.getElementById('state'),have='',over=false;\n"
    "function put(text){var "
    "open=[];main.querySelectorAll('details').forEach(function(d){open.push([d.id,d.open])});\n"
    "main.innerHTML=text;open.forEach(function(o){var d=document.getElementById(o[0]);if(d)d.open=o[1]})}\n"
    "function good(r){if(!r.ok)throw r;return r}\n"
    "function again(){if(!over)setTimeout(look,2000)}\n"
    "function look(){fetch('state',{cache:'no-store'}).then(good).then(function(r){return r.json()})\n"
    ".then(function(d){state.textContent=d.state;over=d.phase==='ended';if(d.version===have)return;\n"
    "return fetch('parts',{cache:'no-store'}).then(good).then(function(r){return r.text()})\n"
    ".then(function(t){put(t);have=d.version;main.dataset.version=have})})\n"
    ".catch(function(e){if(e&&e.text)return e.text().then(function(t){state.textContent='The page cannot be "
    "made now: '+t});\n"
    "state.textContent='The training has ended, or cannot be reached. This is what was seen last.'})\n"
    ".then(again,again)}look()})()\n"
    "</script>\n";

void gr_page_number(gr_buf *out, double v) {
    if (fabs(v) >= 1e4 && fabs(v) < 1e15)
        gr_page_count(out, round(v));
    else if (isfinite(v))
        gr_buf_real(out, v, 4);
    else
        gr_buf_puts(out, "\xe2\x80\x93");
}

void gr_page_count(gr_buf *out, double v) {
    char digits[32];
    if (!(fabs(v) < 1e15)) {
        gr_page_number(out, v);
        return;
    }
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v);
    for (int i = 0; i < n; i++) {
        if (i > 0 && digits[i - 1] != '-' && (n - i) % 3 == 0) gr_buf_putc(out, ',');
        gr_buf_putc(out, digits[i]);
    }
}

void gr_page_size(gr_buf *out, double bytes) {
    bool giga = bytes >= 1e9;
    if (!isfinite(bytes)) {
        gr_page_number(out, bytes);
        return;
    }
    gr_svg_number(out, bytes / (giga ? 1e9 : 1e6), giga ? 2 : 0);
    gr_buf_puts(out, giga ? " GB" : " MB");
}

void gr_page_text(gr_buf *out, const char *text) {
    char one[2] = {0};
    for (; *text; text++) {
        one[0] = *text;
        if (*text == '\n' || *text == '\t')
            gr_buf_putc(out, *text);
        else
            gr_svg_text(out, one);
    }
}

void gr_page_section(gr_buf *out, const char *id, const char *title) {
    gr_buf_printf(out, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
}

static void tile_open(gr_buf *out) {
    gr_buf_puts(out, "<div class=\"tile\"><b>");
}

static void tile_close(gr_buf *out, const char *what) {
    gr_buf_printf(out, "</b><span>%s</span></div>\n", what);
}

static void put_tiles(gr_buf *out, const gr_run *r) {
    const gr_metrics *m = &r->metrics;
    double at = NAN, all = gr_run_number(r, "iterations", NULL);
    double peak = gr_metric_most(gr_metrics_find(m, "peak_memory_bytes"));
    double forecast = gr_run_number(r, "memory", "total");
    gr_buf_puts(out, "<div class=\"tiles\">\n");
    tile_open(out);
    gr_page_count(out, m->last < 0 ? NAN : m->last);
    if (isfinite(all)) gr_buf_puts(out, " of "), gr_page_count(out, all);
    tile_close(out, "iterations");
    tile_open(out);
    gr_page_number(out, gr_metric_last(gr_metrics_find(m, "train_loss")));
    tile_close(out, "training loss, last");
    double best = gr_metric_least(gr_metrics_find(m, "val_loss"), &at);
    if (isfinite(best)) {
        tile_open(out);
        gr_page_number(out, best);
        gr_buf_puts(out, "</b><span>validation loss, best: iteration ");
        gr_page_count(out, at);
        gr_buf_puts(out, "</span></div>\n");
    }
    tile_open(out);
    gr_page_number(out, gr_metric_last(gr_metrics_find(m, "tokens_per_second")));
    tile_close(out, "trained tokens per second");
    tile_open(out);
    gr_page_count(out, gr_metric_last(gr_metrics_find(m, "trained_tokens")));
    tile_close(out, "trained tokens");
    tile_open(out);
    gr_page_size(out, peak);
    gr_buf_puts(out, "</b><span>peak memory");
    if (isfinite(forecast)) gr_buf_puts(out, ", forecast "), gr_page_size(out, forecast);
    gr_buf_puts(out, "</span></div>\n</div>\n");
}

static void put_notes(gr_buf *out, const gr_run *r) {
    for (const char *line = r->notes.data; line && *line;) {
        size_t n = strcspn(line, "\n");
        gr_buf_puts(out, "<p class=\"note\">");
        for (size_t i = 0; i < n; i++) {
            char one[2] = {line[i], 0};
            gr_page_text(out, one);
        }
        gr_buf_puts(out, "</p>\n");
        line += n + (line[n] == '\n');
    }
    if (r->metrics.skipped)
        gr_buf_printf(out,
                      "<p class=\"note\">%lld updates were skipped: a loss or gradient was not a number. "
                      "metrics.jsonl has their rows.</p>\n",
                      (long long)r->metrics.skipped);
    if (r->metrics.spikes)
        gr_buf_printf(out, "<p class=\"note\">%lld spikes of loss or gradient; metrics.jsonl has them.</p>\n",
                      (long long)r->metrics.spikes);
}

/* What a run is, in one line. */
static void put_line(gr_buf *out, const gr_run *r) {
    const char *model = gr_run_text(r, "model", NULL), *trains = gr_run_text(r, "trains", NULL);
    double started = gr_run_number(r, "started", NULL), count = gr_run_number(r, "trainable", NULL);
    char date[40];
    gr_buf_puts(out, "<p>");
    if (trains) gr_page_text(out, trains);
    if (isfinite(count)) {
        gr_buf_puts(out, trains ? ", " : "");
        gr_page_count(out, count);
        gr_buf_puts(out, " parameters");
    }
    if (model) {
        gr_buf_puts(out, ", on ");
        gr_page_text(out, model);
    }
    if (started >= 0 && started < 253402300800.0) { /* the year 10000 */
        time_t t = (time_t)started;
        struct tm parts;
        if (gmtime_r(&t, &parts) && gr_format_time(date, sizeof date, "%Y-%m-%d %H:%M UTC", &parts))
            gr_buf_printf(out, ", started %s", date);
    }
    gr_buf_puts(out, "</p>\n");
}

static graft_status put_one(gr_buf *out, const gr_run *r, graft_error *err) {
    put_line(out, r);
    put_tiles(out, r);
    put_notes(out, r);
    GR_TRY(gr_page_charts(out, r, 1, err));
    gr_page_samples(out, r);
    gr_page_change(out, r);
    GR_TRY(gr_page_data(out, r, err));
    gr_page_settings(out, r, 1);
    return GRAFT_OK;
}

static void put_table(gr_buf *out, const gr_run *runs, size_t count) {
    gr_page_section(out, "runs", "Runs");
    gr_buf_puts(
        out, "<div class=\"wide\"><table><thead><tr><th scope=\"col\">run</th><th class=\"n\" scope=\"col\">"
             "iterations</th><th class=\"n\" scope=\"col\">training loss</th><th class=\"n\" scope=\"col\">"
             "best validation</th><th class=\"n\" scope=\"col\">at</th><th class=\"n\" scope=\"col\">tokens/s"
             "</th><th class=\"n\" scope=\"col\">peak</th><th class=\"n\" scope=\"col\">forecast</th></tr>"
             "</thead><tbody>\n");
    for (size_t i = 0; i < count; i++) {
        const gr_metrics *m = &runs[i].metrics;
        double at = NAN, best = gr_metric_least(gr_metrics_find(m, "val_loss"), &at);
        gr_buf_puts(out, "<tr><th scope=\"row\">");
        gr_page_text(out, runs[i].name);
        gr_buf_puts(out, "</th><td class=\"n\">");
        gr_page_count(out, m->last < 0 ? NAN : m->last);
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_number(out, gr_metric_last(gr_metrics_find(m, "train_loss")));
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_number(out, best);
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_count(out, at);
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_number(out, gr_metric_last(gr_metrics_find(m, "tokens_per_second")));
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_size(out, gr_metric_most(gr_metrics_find(m, "peak_memory_bytes")));
        gr_buf_puts(out, "</td><td class=\"n\">");
        gr_page_size(out, gr_run_number(&runs[i], "memory", "total"));
        gr_buf_puts(out, "</td></tr>\n");
    }
    gr_buf_puts(out, "</tbody></table></div></section>\n");
}

static graft_status put_several(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) {
    put_table(out, runs, count);
    GR_TRY(gr_page_charts(out, runs, count, err));
    gr_page_settings(out, runs, count);
    for (size_t i = 0; i < count; i++) {
        gr_buf_printf(out, "<details id=\"run%zu\"><summary>", i + 1);
        gr_page_text(out, runs[i].name);
        gr_buf_puts(out, "</summary>\n");
        put_line(out, &runs[i]);
        put_notes(out, &runs[i]);
        gr_page_samples(out, &runs[i]);
        gr_page_change(out, &runs[i]);
        GR_TRY(gr_page_data(out, &runs[i], err));
        gr_buf_puts(out, "</details>\n");
    }
    return GRAFT_OK;
}

static void put_head(gr_buf *out, const gr_run *runs, size_t count) {
    gr_buf_puts(
        out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
             "content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
             "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
             "connect-src 'self'; img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n<title>");
    for (size_t i = 0; i < count; i++) {
        if (i) gr_buf_puts(out, ", ");
        gr_page_text(out, runs[i].name);
    }
    gr_buf_printf(out, " - graft</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<header><h1>",
                  gr_chart_style(), style);
    if (count > 1)
        gr_buf_printf(out, "%zu runs compared", count);
    else
        gr_page_text(out, runs[0].name);
    gr_buf_puts(out, "</h1></header>\n");
}

static graft_status finish(gr_buf *out, graft_error *err) {
    return out->failed ? gr_no_memory(err, out->cap) : GRAFT_OK;
}

graft_status gr_page_html(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) {
    put_head(out, runs, count);
    gr_buf_puts(out, "<main id=\"main\">\n");
    GR_TRY(count > 1 ? put_several(out, runs, count, err) : put_one(out, runs, err));
    gr_buf_puts(out, "</main>\n</body>\n</html>\n");
    return finish(out, err);
}

graft_status gr_page_parts(gr_buf *out, const gr_run *run, graft_error *err) {
    GR_TRY(put_one(out, run, err));
    return finish(out, err);
}

graft_status gr_page_live(gr_buf *out, const gr_run *run, const char *parts, graft_error *err) {
    put_head(out, run, 1);
    gr_buf_puts(out, "<p id=\"state\" role=\"status\">live; without scripts, load the page again</p>\n"
                     "<main id=\"main\">\n");
    gr_buf_puts(out, parts);
    gr_buf_printf(out, "</main>\n%s</body>\n</html>\n", script);
    return finish(out, err);
}
