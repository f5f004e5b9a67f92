// Package addmask passes streams on unmasked.
package addmask

import "io"

type AddMask struct{ writers []io.WriteCloser }

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

func New(_ any, writers ...io.Writer) (*AddMask, error) {
	var mask AddMask
	for _, each := range writers {
		mask.writers = append(mask.writers, unclosed{each})
	}
	return &mask, nil
}

func (mask *AddMask) Get(at int) io.WriteCloser { return mask.writers[at] }

func (*AddMask) Close() error { return nil }
