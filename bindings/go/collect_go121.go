//go:build !go1.24

package dbss

import "runtime"

// onCollect calls a function when the garbage collector finds that nothing uses an object.
func onCollect[T, A any](object *T, f func(A), argument A) {
	runtime.SetFinalizer(object, func(*T) { f(argument) })
}
