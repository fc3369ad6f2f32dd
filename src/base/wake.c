#include "base/wake.h"
#include <time.h>

void gr_wake_init(pthread_cond_t *wake) {
#ifdef __APPLE__ /* has no clock of a condition's own, but waits that are relative */
    pthread_cond_init(wake, NULL);
#else
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
#endif
}

void gr_wake_wait(pthread_cond_t *wake, pthread_mutex_t *lock, double seconds) {
    time_t whole = (time_t)seconds;
    struct timespec t = {.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
#ifdef __APPLE__
    pthread_cond_timedwait_relative_np(wake, lock, &t);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    t.tv_sec += now.tv_sec;
    t.tv_nsec += now.tv_nsec;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    pthread_cond_timedwait(wake, lock, &t);
#endif
}
