/* train/pairs.c: every pair of validation is measured whatever its size and whatever trains, and an answer
 * has as many tokens as are predicted. */
#include "tests/tiny_run.h"

typedef struct seen {
    graft_preference valid;
    int count;
} seen;

static void on_valid(void *user, const graft_event *e) {
    seen *s = user;
    if (e->kind != GRAFT_EVENT_VALID) return;
    s->valid = e->preference;
    s->count++;
}

/* Small pairs to train on, and validation of the same and of one that is larger than all of them. */
static char *pairs_dir(void) {
    char *dir = tiny_subdir(root, "pairs");
    tiny_write(dir, "train.jsonl",
               "{\"prompt\": \"a\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n"
               "{\"prompt\": \"b\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n"
               "{\"prompt\": \"c\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n");
    tiny_write(
        dir, "valid.jsonl",
        "{\"prompt\": \"d\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n"
        "{\"prompt\": \"e\", \"chosen\": \"yes, and at some length, so that it is the longest of all\", "
        "\"rejected\": \"no, and that for reasons which would fill more than a line\"}\n");
    return dir;
}

/* Where the embedding trains and is the head too, rows and pairs run alone. */
static void larger_than_training(void **state) {
    (void)state;
    static const char *const kinds[][4] = {{"lora-targets", "q_proj,embed_tokens"},
                                           {"modules-to-save", "embed_tokens"},
                                           {"lora-targets", "q_proj"}};
    static const char *const losses[] = {"dpo", "orpo"};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *dir = pairs_dir();
    for (size_t k = 0; k < 3; k++)
        for (size_t l = 0; l < 2; l++) {
            graft_options o;
            graft_error err = {0};
            graft_train_result r = {0};
            seen s = {0};
            graft_hooks hooks = {.user = &s, .event = on_valid};
            char *out = tiny_join(root, "out");
            graft_options_init(&o);
            tiny_set(&o, GRAFT_VERB_TRAIN,
                     (const char *const[]){"model", model, "data", dir, "adapter-path", out, "iters", "1",
                                           "batch-size", "1", "loss", losses[l], "threads", "1",
                                           "val-batches", "-1", kinds[k][0], kinds[k][1], NULL});
            if (graft_train(&o, &hooks, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
            assert_int_equal(s.count, 2);
            assert_int_equal(s.valid.pairs, 2);
            assert_true(r.val_loss_first > 0);
            graft_options_free(&o);
            free(out);
            forget("out");
        }
    tiny_remove(dir);
    tiny_remove(model);
}

/* Without a prompt the answer is all that is predicted: its mean log-probability is minus the likelihood's
 * loss. */
static void answers_without_a_prompt(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *dir = tiny_subdir(root, "pairs");
    for (int with = 0; with < 2; with++) {
        graft_options o;
        graft_error err = {0};
        seen s = {0};
        graft_hooks hooks = {.user = &s, .event = on_valid};
        char *out = tiny_join(root, "out");
        char row[200];
        snprintf(row, sizeof row, "{\"prompt\": \"%s\", \"chosen\": \"yes yes\", \"rejected\": \"no\"}\n",
                 with ? "say " : "");
        tiny_write(dir, "train.jsonl", row);
        tiny_write(dir, "valid.jsonl", row);
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_TRAIN,
                 (const char *const[]){"model", model, "data", dir, "adapter-path", out, "iters", "1",
                                       "batch-size", "1", "loss", "orpo", "threads", "1", NULL});
        if (graft_train(&o, &hooks, NULL, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        double off = fabs(s.valid.nll_loss + s.valid.logp_chosen);
        assert_true(with ? off > 1e-3 : off <= 1e-12 * s.valid.nll_loss);
        graft_options_free(&o);
        free(out);
        forget("out");
    }
    tiny_remove(dir);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(larger_than_training),
                                       cmocka_unit_test(answers_without_a_prompt)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
