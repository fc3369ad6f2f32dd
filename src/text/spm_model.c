/* The protocol buffer of a tokenizer.model. Source of the field numbers: sentencepiece_model.proto. */
#include "text/spm_model.h"
#include "text/token_parts.h"

typedef struct message { /* bytes that are left */
    const uint8_t *at, *end;
} message;
typedef struct field {
    uint64_t number, value; /* value: varint or fixed */
    message bytes;          /* of a length-delimited field */
    int wire;
} field;
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static bool read_varint(message *m, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

static bool read_fixed(message *m, int bytes, uint64_t *value) {
    *value = 0;
    if (m->end - m->at < bytes) return false;
    for (int i = 0; i < bytes; i++) *value |= (uint64_t)m->at[i] << 8 * i;
    m->at += bytes;
    return true;
}

static bool read_field(message *m, field *f) {
    uint64_t key, len;
    if (!read_varint(m, &key)) return false;
    *f = (field){.number = key >> 3, .wire = (int)(key & 7)};
    switch (f->wire) {
    case VARINT: return read_varint(m, &f->value);
    case FIXED64: return read_fixed(m, 8, &f->value);
    case FIXED32: return read_fixed(m, 4, &f->value);
    case BYTES:
        if (!read_varint(m, &len) || len > (uint64_t)(m->end - m->at)) return false;
        f->bytes = (message){m->at, m->at + len};
        m->at += len;
        return true;
    default: return false;
    }
}

static graft_status broken(const char *what, graft_error *err) {
    return gr_fail(err, GRAFT_CORRUPT, "the SentencePiece model's %s cannot be read", what);
}

static float float_of(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return value;
}

static graft_status read_piece(gr_spm_model *model, message m, graft_error *err) {
    gr_spm_piece piece = {"", 0, 0, GR_PIECE_NORMAL};
    while (m.at < m.end) {
        field f;
        if (!read_field(&m, &f)) return broken("pieces", err);
        if (f.number == 1 && f.wire == BYTES)
            piece.text = (const char *)f.bytes.at, piece.len = (size_t)(f.bytes.end - f.bytes.at);
        if (f.number == 2 && f.wire == FIXED32) piece.score = float_of(f.value);
        if (f.number == 3 && f.wire == VARINT) piece.type = (int64_t)(f.value & 0xff);
    }
    if (piece.score - piece.score != 0) return broken("scores", err); /* infinite or not a number */
    if (model->count == GR_MAX_TOKEN_ID)
        return gr_fail(err, GRAFT_RANGE, "the SentencePiece model has more than %d pieces", GR_MAX_TOKEN_ID);
    if (!gr_grow((void **)&model->pieces, &model->cap, model->count, sizeof piece))
        return gr_no_memory(err, model->cap * 2 * sizeof piece);
    model->pieces[model->count++] = piece;
    return GRAFT_OK;
}

static graft_status read_trainer(gr_spm_model *model, message m, graft_error *err) {
    while (m.at < m.end) {
        field f;
        if (!read_field(&m, &f)) return broken("trainer_spec", err);
        if (f.wire != VARINT) continue;
        int64_t value = (int64_t)(int32_t)(uint32_t)f.value; /* int32 comes in 64 bits */
        switch (f.number) {
        case 3: model->kind = value; break;
        case 24:
            if (!value) break;
            return gr_fail(err, GRAFT_UNSUPPORTED,
                           "a SentencePiece model with treat_whitespace_as_suffix is not supported");
        case 35: model->byte_fallback = value != 0; break;
        case 40: model->unk = value; break;
        case 41: model->bos = value; break;
        case 42: model->eos = value; break;
        default: break;
        }
    }
    return GRAFT_OK;
}

static graft_status read_normalizer(gr_spm_model *model, message m, graft_error *err) {
    while (m.at < m.end) {
        field f;
        if (!read_field(&m, &f)) return broken("normalizer_spec", err);
        if (f.number == 2 && f.wire == BYTES && f.bytes.at < f.bytes.end)
            model->charsmap = (const char *)f.bytes.at,
            model->charsmap_len = (size_t)(f.bytes.end - f.bytes.at);
        if (f.wire != VARINT) continue;
        if (f.number == 3) model->add_dummy_prefix = f.value != 0;
        if (f.number == 4) model->remove_extra_whitespaces = f.value != 0;
        if (f.number == 5 && !f.value)
            return gr_fail(err, GRAFT_UNSUPPORTED,
                           "a SentencePiece model without escape_whitespaces is not supported");
    }
    return GRAFT_OK;
}

/* A map for decoded text, which no known model has. */
static graft_status check_denormalizer(message m, graft_error *err) {
    while (m.at < m.end) {
        field f;
        if (!read_field(&m, &f)) return broken("denormalizer_spec", err);
        if (f.number == 2 && f.wire == BYTES && f.bytes.at < f.bytes.end)
            return gr_fail(err, GRAFT_UNSUPPORTED,
                           "a SentencePiece model with a denormalizer is not supported");
    }
    return GRAFT_OK;
}

static graft_status read_member(gr_spm_model *model, const field *f, graft_error *err) {
    if (f->wire != BYTES) return GRAFT_OK;
    switch (f->number) {
    case 1: return read_piece(model, f->bytes, err);
    case 2: return read_trainer(model, f->bytes, err);
    case 3: return read_normalizer(model, f->bytes, err);
    case 5: return check_denormalizer(f->bytes, err);
    default: return GRAFT_OK;
    }
}

static int64_t id_within(const gr_spm_model *model, int64_t id) {
    return id >= 0 && (uint64_t)id < model->count ? id : -1;
}

graft_status gr_spm_model_read(gr_spm_model *model, const char *data, size_t len, graft_error *err) {
    message m = {(const uint8_t *)data, (const uint8_t *)data + len};
    *model = (gr_spm_model){
        .kind = 1, .add_dummy_prefix = true, .remove_extra_whitespaces = true, .bos = 1, .eos = 2};
    while (m.at < m.end) {
        field f;
        if (!read_field(&m, &f)) {
            gr_fail(err, GRAFT_CORRUPT, "not a SentencePiece model, or a damaged one");
            return gr_found(err, "a bad field before byte %zu", (size_t)(m.at - (const uint8_t *)data));
        }
        GR_TRY(read_member(model, &f, err));
    }
    if (!model->count) return gr_fail(err, GRAFT_CORRUPT, "the SentencePiece model has no pieces");
    model->unk = id_within(model, model->unk);
    model->bos = id_within(model, model->bos);
    model->eos = id_within(model, model->eos);
    if (model->kind == 1 || model->kind == 2) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "the SentencePiece model's type is not supported");
    gr_found(err, "%s", model->kind == 3 ? "WORD" : model->kind == 4 ? "CHAR" : "an unknown one");
    return gr_expected(err, "UNIGRAM or BPE");
}

void gr_spm_model_free(gr_spm_model *model) {
    free(model->pieces);
    memset(model, 0, sizeof *model);
}
