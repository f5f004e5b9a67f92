// Package cachefiles looks at the databases of a build cache before they are opened, and drops those that are damaged: a
// cache is made anew by builds.
package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/bklog"
	bolt "go.etcd.io/bbolt"
)

// databases are the files, in the order in which they are looked at, each with those that mean nothing without it.
var databases = []struct {
	file       string
	dependents []string
}{
	{"states.db", []string{"keys.db"}},      // Keys lead to states.
	{"metadata.db", []string{"history.db"}}, // The history of builds is of its content and leases.
	{"keys.db", nil},
	{"history.db", nil},
}

// DropDamaged removes databases of a directory that are damaged, and those that depend on them. Looking at a damaged one may
// end a process, so that another does: check is its command line, to which the file's path is added. Each database
// that goes is logged, with the reason.
func DropDamaged(ctx context.Context, directory string, check []string) error {
	for _, database := range databases {
		file := filepath.Join(directory, database.file)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		reason, err := damageOf(ctx, file, check)
		if err != nil {
			return fmt.Errorf("look at %s: %w", file, err)
		}
		if reason == "" {
			continue
		}
		bklog.G(ctx).Warnf("the build cache's %s is damaged and dropped: %s", file, reason)
		for _, dependent := range database.dependents {
			bklog.G(ctx).Warnf("the build cache's %s is dropped with it", filepath.Join(directory, dependent))
		}
		for _, each := range append([]string{database.file}, database.dependents...) {
			if err := os.Remove(filepath.Join(directory, each)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// damageOf returns the first line of why a file is damaged; empty: it is whole.
func damageOf(ctx context.Context, file string, check []string) (string, error) {
	var said strings.Builder
	command := exec.CommandContext(ctx, check[0], append(check[1:], file)...)
	command.Stderr = &said
	err := command.Run()
	if err == nil || ctx.Err() != nil {
		return "", ctx.Err()
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return "", err // It was not looked at.
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	if reason == "" {
		reason = ended.String()
	}
	return reason, nil
}

// Check reads a database whole and answers what is wrong with it. One that is damaged may end the process.
func Check(file string) error {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return fmt.Errorf("it has %d of %d bytes", info.Size(), tx.Size())
		}
		var first error
		for wrong := range tx.Check() { // It is read to its end, which lets go of the transaction.
			if first == nil {
				first = wrong
			}
		}
		return first
	})
}
