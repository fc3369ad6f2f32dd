/* out.c - numbers and texts for people, and stdout's health. */
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void out_text(FILE *out, const char *text, size_t n, bool terminal) {
    if (!terminal) {
        fwrite(text, 1, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)text[i], next = i + 1 < n ? (unsigned char)text[i + 1] : 0;
        if ((b < 32 && b != '\n' && b != '\t') || b == 127) {
            fprintf(out, "\\x%02x", b);
        } else if (b == 0xc2 && next >= 0x80 && next < 0xa0) { /* C1 controls: terminals obey them too */
            fprintf(out, "\\x%02x", next);
            i++;
        } else {
            fputc(b, out);
        }
    }
}

bool out_alive(cli *c) {
    if (!c->out_errno && ferror(stdout)) c->out_errno = errno ? errno : EIO;
    return c->out_errno == 0;
}

graft_status out_finish(cli *c) {
    errno = 0;
    if (fflush(stdout) != 0 && !c->out_errno) c->out_errno = errno ? errno : EIO;
    if (out_alive(c) || c->out_errno == EPIPE) return GRAFT_OK;
    cli_fail(c, GRAFT_IO, "cannot write the output");
    cli_where(c, "standard output");
    cli_found(c, strerror(c->out_errno));
    return GRAFT_IO;
}

const char *out_size(out_buf *b, uint64_t bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 || value >= 99.95 ? 0 : unit >= 3 && value < 9.995 ? 2 : 1;
    snprintf(b->text, sizeof b->text, "%.*f %s", digits, value, units[unit]);
    return b->text;
}

const char *out_count(out_buf *b, int64_t n) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    int at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && digits[i - 1] != '-' && (len - i) % 3 == 0) b->text[at++] = ',';
        b->text[at++] = digits[i];
    }
    b->text[at] = '\0';
    return b->text;
}

const char *out_seconds(out_buf *b, double seconds) {
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e12) {
        snprintf(b->text, sizeof b->text, "?");
    } else if (seconds < 9.95) {
        snprintf(b->text, sizeof b->text, "%.1f s", seconds);
    } else {
        long long s = llround(seconds);
        if (s < 60)
            snprintf(b->text, sizeof b->text, "%lld s", s);
        else if (s < 3600)
            snprintf(b->text, sizeof b->text, "%lld min %02lld s", s / 60, s % 60);
        else
            snprintf(b->text, sizeof b->text, "%lld h %02lld min", s / 3600, s % 3600 / 60);
    }
    return b->text;
}

int out_width(FILE *stream) {
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    const char *columns = getenv("COLUMNS");
    long n = columns ? strtol(columns, NULL, 10) : 0;
    return n > 0 && n < 1000 ? (int)n : 80;
}
