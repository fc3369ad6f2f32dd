/* train/base_model.h - the base of a run as the run needs it stored: 4 bits for most presets, 16 for others.
 * May include: everything above train. Never: opens weights; a conversion is kept and made once.
 */
#ifndef GR_TRAIN_BASE_MODEL_H
#define GR_TRAIN_BASE_MODEL_H
#include "convert/convert.h"
#include "options/options.h"

/* *dir (malloc'ed) is the MLX or Hugging Face directory to train on, of the model at `path` (as
 * gr_model_locate found it; gguf: a GGUF file). A GGUF is taken code for code into a kept directory. A 16-bit
 * model under a 4-bit preset is quantized into one, except for a plan: that takes the kept one if there is
 * one, else the model itself. A directory without weights stays what it is, as plans take it. progress, say
 * and context as in gr_convert_kept. What the options select is checked against config.json first; before a
 * conversion the inputs are, for plan and train, and a train's --budget. errors  GRAFT_USAGE with the command
 * that dequantizes, where 16 bits are asked for and the model has fewer: before anything is converted or
 * loaded; those of gr_tuning_select, gr_convert_kept, and of the readers */
graft_status gr_base_prepare(char **dir, const char *path, bool gguf, const graft_options *o, graft_verb verb,
                             gr_convert_progress *progress, gr_convert_say *say, void *context,
                             graft_error *err) GR_MUST_CHECK;

/* What a run reads beside the model is there: --data (needed if `run`) has rows to train on, and to
 * validate on with --keep-best; --resume-adapter-file exists. GRAFT_USAGE or GRAFT_NOT_FOUND. */
graft_status gr_base_check_inputs(const graft_options *o, bool run, graft_error *err) GR_MUST_CHECK;

#endif
