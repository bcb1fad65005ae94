package dbss

import "sync/atomic"

// resource owns a handle of libdbss. It is freed when it is closed, or when nothing refers to
// the resource any more, and nothing uses it. What copies of an object share has a pointer to
// it, so that it lives as long as any of them.
type resource[H any] struct{ *users[H] }

// users counts those that use a handle.
type users[H any] struct {
	handle H
	free   func(H)
	// The owner counts as a user until it closes the resource.
	count  atomic.Int64
	closed atomic.Bool
}

// newResource makes a resource. What nothing refers to is closed with the function `end`.
func newResource[H any](handle H, free, end func(H)) *resource[H] {
	r := &resource[H]{&users[H]{handle: handle, free: free}}
	r.count.Store(1)
	onCollect(r, func(u *users[H]) { u.close(end) }, r.users)
	return r
}

// acquire returns the handle, unless the resource is closed. It must be released.
func (u *users[H]) acquire() (handle H, ok bool) {
	for {
		count := u.count.Load()
		if count == 0 || u.closed.Load() {
			return handle, false
		}
		if u.count.CompareAndSwap(count, count+1) {
			return u.handle, true
		}
	}
}

func (u *users[H]) release() {
	if u.count.Add(-1) == 0 {
		u.free(u.handle)
	}
}

// close lets a function end the calls that run. It does nothing the second time.
func (u *users[H]) close(end func(H)) {
	if !u.closed.CompareAndSwap(false, true) {
		return
	}
	if end != nil {
		end(u.handle)
	}
	u.release()
}

// noCopy lets "go vet" report copies of a structure.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
