// Package cachefiles checks the databases of a build cache before they are opened, and removes damaged ones: builds
// recreate a cache.
package cachefiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/util/bklog"
	bolt "go.etcd.io/bbolt"
)

// databases are the files in the order of their checks, each with those that depend on it.
var databases = []struct {
	file       string
	dependents []string
}{
	{"states.db", []string{"keys.db"}},      // keys refer to states
	{"metadata.db", []string{"history.db"}}, // the history of builds refers to its content and leases
	{"keys.db", nil},
	{"history.db", nil},
}

// DropDamaged removes a directory's damaged databases and those that depend on them. Checking a damaged one may crash
// the process, so another process does: check is its command line, to which the file's path is appended. Each removal
// is logged with its reason. A file that cannot be checked, or not before the limit for all of them is over, stays and is opened;
// the next start checks it again.
func DropDamaged(ctx context.Context, directory string, check []string, limit time.Duration) error {
	checking, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("all checks together took longer than %s", limit))
	defer cancel()
	for _, database := range databases {
		file := filepath.Join(directory, database.file)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		reason, err := damageOf(checking, file, check)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = cmp.Or(context.Cause(checking), err)
			bklog.G(ctx).Warnf("the build cache's %s is not checked: %s", file, err)
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

// noThread is printed by a Go program that gets no thread. Its exit code is that of a crash over damaged data; a lack of
// memory counts as damage, because damaged data may ask for any amount.
const noThread = "fatal error: newosproc"

// damageOf returns the first line of a damage report; empty: the file is intact.
func damageOf(ctx context.Context, file string, check []string) (string, error) {
	var said strings.Builder
	command := exec.CommandContext(ctx, check[0], append(check[1:], file)...)
	command.Stderr = &said
	err := command.Run()
	if err == nil {
		return "", nil
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return "", err // it was not checked
	}
	if !ended.Exited() || ended.ExitCode() == notChecked || strings.Contains(said.String(), noThread) {
		return "", errors.Join(err, errors.New(said.String())) // a signal or a lack says nothing about the file
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	if reason == "" {
		reason = ended.String()
	}
	return reason, nil
}

// Check returns a database's first error. On an error the file stays open, since its process ends; a damaged file may also
// crash it.
func Check(file string) error {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it has %d of %d bytes", info.Size(), tx.Size())
	}
	// A cycle of pages has no last error, and the check reads on until its second.
	if first := <-tx.Check(); first != nil {
		return first
	}
	if err := tx.ForEach(walk); err != nil {
		return err
	}
	return errors.Join(tx.Rollback(), db.Close())
}

// walk reads a bucket and those within it: the check of pages leaves out buckets that are kept within another's page.
func walk(name []byte, bucket *bolt.Bucket) error {
	return bucket.ForEachBucket(func(inner []byte) error {
		within := bucket.Bucket(inner)
		if within == nil {
			return fmt.Errorf("bucket %q has no bucket %q", name, inner)
		}
		return walk(inner, within)
	})
}

// notChecked is the exit code of a check that lacked something of the machine: EX_TEMPFAIL of sysexits.h.
const notChecked = 75

// ExitCode returns that of a check's process that ends with an error.
func ExitCode(err error) int {
	if lack := syscall.Errno(0); errors.As(err, &lack) && (lack.Temporary() || lack == syscall.ENOMEM) {
		return notChecked
	}
	return 1
}
