//go:build go1.24

package dbss

import "runtime"

// onCollect calls a function when the garbage collector finds that nothing refers to an object,
// which is not a part of another one.
func onCollect[T, A any](object *T, f func(A), argument A) {
	runtime.AddCleanup(object, f, argument)
}
