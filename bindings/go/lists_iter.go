//go:build go1.23

package dbss

import "iter"

// All returns the items that remain, for "range". A failure comes with a zero item and ends
// the loop; another loop continues with the same page.
func (l *List[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for l.Next() {
			if !yield(l.Item(), nil) {
				return
			}
		}
		if err := l.Err(); err != nil {
			var none T
			yield(none, err)
		}
	}
}
