/*
 * The standard library's mutex takes its fast path in code that is compiled
 * with us, where ThreadSanitizer sees it, and its slow path in code that is
 * not. This wrapper, which the linker puts around the latter, tells what it
 * does: whoever returns from it has the lock.
 */
#define PASTE(a, b) a##b
#define NAME(prefix, name) PASTE(prefix, name)

void __tsan_acquire(void *address);
void NAME(__real_, CONTENDED)(void *mutex);

void NAME(__wrap_, CONTENDED)(void *mutex)
{
    NAME(__real_, CONTENDED)(mutex);
    __tsan_acquire(mutex);
}
