/* Starts threads. */
#pragma once

#include <pthread.h>

/* Starts a thread on which no signal is handled: signals are main's, and SIGXFSZ above all must
 * become EFBIG. 0, or the error number of pthread_create(3). */
int thread_start(pthread_t *thread, void *(*run)(void *user), void *user);
