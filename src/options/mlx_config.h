/* options/mlx_config.h - the parts of reading an mlx-lm configuration (graft_options_load_yaml). */
#ifndef GR_OPTIONS_MLX_CONFIG_H
#define GR_OPTIONS_MLX_CONFIG_H
#include "options/options.h"
#include <jansson.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct gr_config {
    graft_options *o;
    const char *path;
    gr_buf note; /* names of keys without meaning here */
} gr_config;

/* All errors name the file; wrong keys, types and values are GRAFT_USAGE. A value whose option a flag has set
 * is read and left alone. */

/* Stores text for the option of that row and takes back what a default said in other words. */
graft_status gr_config_store(gr_config *l, int index, const char *text, const char *called,
                             graft_error *err) GR_MUST_CHECK;
/* The same from a JSON scalar; NULL and null mean that the key was left out. */
graft_status gr_config_store_json(gr_config *l, const char *option, const json_t *value, const char *called,
                                  graft_error *err) GR_MUST_CHECK;
/* Refuses `key` inside `in` ("" for the top) and names the nearest of `names`. */
graft_status gr_config_unknown(const gr_config *l, const char *in, const char *key, const char *const *names,
                               size_t count, graft_error *err);

graft_status gr_config_lora(gr_config *l, const json_t *object, graft_error *err) GR_MUST_CHECK;
graft_status gr_config_optimizer_name(gr_config *l, const json_t *value, graft_error *err) GR_MUST_CHECK;
/* The settings of the optimizer in force out of optimizer_config, which may be NULL. */
graft_status gr_config_optimizers(gr_config *l, const json_t *object, graft_error *err) GR_MUST_CHECK;
graft_status gr_config_schedule(gr_config *l, const json_t *object, graft_error *err) GR_MUST_CHECK;

#endif
