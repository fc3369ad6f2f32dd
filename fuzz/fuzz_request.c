/* Requests to `graft serve`: any bytes are refused with a message or read into values within their ranges. */
#include "chat/request.h"
#include "infer/stops.h"

static void look(const uint8_t *data, size_t size, bool chat) {
    graft_options defaults;
    gr_refusal why;
    gr_request ask;
    graft_options_init(&defaults);
    if (gr_request_read(&ask, chat, (const char *)data, size, &defaults, &why)) {
        gr_stops stops;
        if (!ask.messages == !ask.prompt || ask.o.max_tokens < 0 || !(ask.o.top_p >= 0 && ask.o.top_p <= 1))
            abort();
        if (gr_stops_init(&stops, ask.o.stop, NULL) != GRAFT_OK) abort();
        gr_stops_free(&stops);
    } else if (!why.message[0] || why.status < 400) {
        abort();
    }
    gr_request_free(&ask);
    graft_options_free(&defaults);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 1 << 16) return 0;
    look(data, size, true);
    look(data, size, false);
    return 0;
}
