package dbss

import "sync/atomic"

// resource owns a handle of libdbss and frees it when it is closed and nothing uses it.
type resource[H any] struct {
	handle H
	free   func(H)
	// The owner counts as a user until it closes the resource.
	users  atomic.Int64
	closed atomic.Bool
}

func newResource[H any](handle H, free func(H)) *resource[H] {
	r := &resource[H]{handle: handle, free: free}
	r.users.Store(1)
	return r
}

// acquire returns the handle, unless the resource is closed. It must be released.
func (r *resource[H]) acquire() (handle H, ok bool) {
	for {
		users := r.users.Load()
		if users == 0 || r.closed.Load() {
			return handle, false
		}
		if r.users.CompareAndSwap(users, users+1) {
			return r.handle, true
		}
	}
}

func (r *resource[H]) release() {
	if r.users.Add(-1) == 0 {
		r.free(r.handle)
	}
}

// close lets a function end the calls that run. It does nothing the second time.
func (r *resource[H]) close(end func(H)) {
	if !r.closed.CompareAndSwap(false, true) {
		return
	}
	if end != nil {
		end(r.handle)
	}
	r.release()
}
