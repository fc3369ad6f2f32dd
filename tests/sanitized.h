/* tests/sanitized.h - is this program built with a sanitizer? It is several times slower then. */
#ifndef SANITIZED_H
#define SANITIZED_H

/* A sanitizer keeps memory of its own, and more with every call. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

#endif
