/* base/sha against the examples of FIPS 180. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sha.h"
#include <cmocka.h>
#include <string.h>

static void digests(void **state) {
    (void)state;
    static const struct {
        const char *text, *sha1, *sha256;
        size_t times;
    } rows[] = {
        {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
        {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
        {"aaaaaaaaaa", "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
         "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000},
    }; /* FIPS 180's examples */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int kind = 0; kind < 2; kind++) {
            gr_sha sha;
            char text[65];
            gr_sha_begin(&sha, kind ? GR_SHA256 : GR_SHA1);
            for (size_t k = 0; k < rows[i].times; k++) gr_sha_add(&sha, rows[i].text, strlen(rows[i].text));
            gr_sha_hex(&sha, text);
            assert_string_equal(text, kind ? rows[i].sha256 : rows[i].sha1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(digests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
