/* report/svg_text.h - numbers and text as SVG needs them: points whatever the locale, markup escaped. */
#ifndef GR_REPORT_SVG_TEXT_H
#define GR_REPORT_SVG_TEXT_H
#include "base/memory.h"

/* v with `decimals` (0 to 9) places, "1.5e+20" where that would be unreadably long. */
void gr_svg_number(gr_buf *out, double v, int decimals);
/* Text with &, <, > and quotes escaped; control characters, which XML forbids, become blanks. */
void gr_svg_text(gr_buf *out, const char *text);

#endif
