/* base/wake.h - waiting for a condition no longer than some seconds, by a clock that nobody sets.
 */
#ifndef GR_BASE_WAKE_H
#define GR_BASE_WAKE_H
#include <pthread.h>

/* Ends with pthread_cond_destroy. */
void gr_wake_init(pthread_cond_t *wake);
/* Lets go of the lock until the condition is signalled, or about so many seconds. */
void gr_wake_wait(pthread_cond_t *wake, pthread_mutex_t *lock, double seconds);

#endif
