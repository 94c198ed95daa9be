// A small pool of threads: as many as the process may use, asleep between calls, never spinning.
//
// A call takes the pool if it is free; a second caller works alone, so that threads of a program don't wait for each
// other. A child of fork() has none of its parent's threads: it starts with a pool of its own.
#include "common.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

namespace {

const int MOST = 64;
const int SLOTS = 16;

pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER; // held by the call that has the pool
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // of all below
pthread_cond_t start = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
int wanted = 0;   // threads that a call may use, the caller's among them; 0: not counted yet
int running = 0;  // threads that were started
int64_t round_number = 0;
int taking_part = 0, at_work = 0;
PoolBody body = nullptr;
void *context = nullptr;
int64_t n_items = 0, next_item = 0;
thread_local bool inside = false;

struct Scratch {
  void *data[SLOTS];
  size_t size[SLOTS];
};
pthread_key_t scratch_key;
pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
thread_local Scratch *scratch = nullptr;

void free_scratch(void *p) {
  Scratch *s = (Scratch *)p;
  for (int i = 0; i < SLOTS; i++) free(s->data[i]);
  free(s);
}

void make_key() { pthread_key_create(&scratch_key, free_scratch); }

int from_cgroup() { // processors of the quota of a container, 0 without one
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (!file) return 0;
  long quota = 0, period = 0;
  int n = fscanf(file, "%ld %ld", &quota, &period); // "max 100000" gives 0
  fclose(file);
  return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int usable() {
  int n = 1;
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
#else
  n = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
  int quota = from_cgroup();
  if (quota && quota < n) n = quota;
  return n < 1 ? 1 : n > MOST ? MOST : n;
}

void work(int worker) {
  inside = true;
  for (;;) {
    int64_t index = __atomic_fetch_add(&next_item, 1, __ATOMIC_RELAXED);
    if (index >= n_items) break;
    body(context, index, worker);
  }
  inside = false;
}

void *loop(void *argument) {
  int worker = (int)(intptr_t)argument;
  int64_t seen = 0;
  pthread_mutex_lock(&lock);
  seen = round_number - 1;
  for (;;) {
    while (seen == round_number || worker >= taking_part) {
      seen = round_number;
      pthread_cond_wait(&start, &lock);
    }
    seen = round_number;
    pthread_mutex_unlock(&lock);
    work(worker);
    pthread_mutex_lock(&lock);
    if (--at_work == 0) pthread_cond_signal(&done);
  }
  return nullptr;
}

void in_child() {
  pthread_mutex_init(&busy, nullptr);
  pthread_mutex_init(&lock, nullptr);
  pthread_cond_init(&start, nullptr);
  pthread_cond_init(&done, nullptr);
  running = 0;
  taking_part = at_work = 0;
  inside = false;
}

__attribute__((constructor)) void prepare() { pthread_atfork(nullptr, nullptr, in_child); }

} // namespace

int pool_threads() {
  int n = __atomic_load_n(&wanted, __ATOMIC_RELAXED);
  if (!n) {
    n = usable();
    __atomic_store_n(&wanted, n, __ATOMIC_RELAXED);
  }
  return n;
}

void *pool_scratch(int slot, size_t bytes) {
  if (!scratch) {
    pthread_once(&scratch_once, make_key);
    scratch = (Scratch *)calloc(1, sizeof(Scratch));
    if (!scratch) return nullptr;
    pthread_setspecific(scratch_key, scratch);
  }
#ifdef __SANITIZE_ADDRESS__
  size_t size = (bytes + 63) / 64 * 64; // no more than was asked for, so that what is beyond it is seen
  if (size != scratch->size[slot]) {
#else
  size_t size = (bytes + bytes / 4 + 127) / 64 * 64;
  if (bytes > scratch->size[slot]) {
#endif
    free(scratch->data[slot]);
    scratch->data[slot] = aligned_alloc(64, size);
    scratch->size[slot] = scratch->data[slot] ? size : 0;
  }
  return scratch->data[slot];
}

void pool_run(int64_t n, PoolBody call, void *argument) {
  int threads = pool_threads();
  if (threads > n) threads = (int)n;
  if (threads <= 1 || inside || pthread_mutex_trylock(&busy) != 0) {
    bool before = inside;
    inside = true;
    for (int64_t i = 0; i < n; i++) call(argument, i, 0);
    inside = before;
    return;
  }
  pthread_mutex_lock(&lock);
  while (running < threads - 1) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, loop, (void *)(intptr_t)(running + 1));
    pthread_attr_destroy(&attributes);
    if (failed) break;
    running++;
  }
  if (threads > running + 1) threads = running + 1;
  body = call;
  context = argument;
  n_items = n;
  __atomic_store_n(&next_item, 0, __ATOMIC_RELAXED);
  taking_part = threads;
  at_work = threads - 1;
  round_number++;
  pthread_cond_broadcast(&start);
  pthread_mutex_unlock(&lock);
  work(0);
  pthread_mutex_lock(&lock);
  while (at_work) pthread_cond_wait(&done, &lock);
  taking_part = 0;
  pthread_mutex_unlock(&lock);
  pthread_mutex_unlock(&busy);
}

#define ABI extern "C" __attribute__((visibility("default")))

ABI int codec_threads() { return pool_threads(); }

// At most this many threads from now on; 0: as many as the process may use now.
ABI void codec_set_threads(int n) {
  __atomic_store_n(&wanted, n <= 0 ? usable() : n > MOST ? MOST : n, __ATOMIC_RELAXED);
}
