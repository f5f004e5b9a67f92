package cachefiles

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/util/bklog"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// limit is more than a check takes.
const limit = time.Minute

// innerBucket is the name of a bucket that is kept within another's page.
const innerBucket = "the inner bucket"

// database makes a file with a bucket in another's page.
func database(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := bolt.Open(file, 0o600, nil)
	assert.NilError(t, err)
	err = db.Update(func(tx *bolt.Tx) error {
		outer, err := tx.CreateBucket([]byte("outer"))
		if err != nil {
			return err
		}
		inner, err := outer.CreateBucket([]byte(innerBucket))
		if err != nil {
			return err
		}
		return inner.Put([]byte("key"), []byte("value"))
	})
	assert.NilError(t, err)
	assert.NilError(t, db.Close())
	return file
}

// checked returns what Check says, or with what it panics.
func checked(file string) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	return Check(file)
}

// TestMain makes the test's program a check of a database, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "--check-database" {
		if err := Check(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(ExitCode(err))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestACheckThatSaysNothingAboutTheFileDropsNothing(t *testing.T) {
	for name, script := range map[string]string{
		"killed":        "kill -9 $$",
		"no thread":     "echo 'runtime: failed to create new OS thread (have 2 already; errno=11)\nfatal error: newosproc' >&2; exit 2",
		"no descriptor": fmt.Sprintf("ulimit -n 6; exec 3</dev/null 4<&3 5<&3; exec %s --check-database", os.Args[0]) + ` "$0"`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "states.db")
			assert.NilError(t, os.WriteFile(file, []byte("whole"), 0o600))
			assert.Check(t, DropDamaged(t.Context(), filepath.Dir(file), []string{"sh", "-c", script}, limit), "the builder does not start")
			_, err := os.Stat(file)
			assert.Check(t, err)
		})
	}
}

func TestAFileWhoseCheckTakesTooLongIsOpened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.db")
	assert.NilError(t, os.WriteFile(file, []byte("large"), 0o600))
	logger := logrus.New()
	var log strings.Builder
	logger.SetOutput(&log)
	ctx := bklog.WithLogger(t.Context(), logrus.NewEntry(logger))
	assert.Check(t, DropDamaged(ctx, filepath.Dir(file), []string{"sh", "-c", "exec sleep 30"}, 10*time.Millisecond), "the builder does not start")
	_, err := os.Stat(file)
	assert.Check(t, err)
	assert.Check(t, is.Contains(log.String(), "longer than 10ms"))
}

func TestAFileWhoseCheckCrashesIsDropped(t *testing.T) {
	file := database(t)
	content, err := os.ReadFile(file)
	assert.NilError(t, err)
	// The page of the outer bucket follows its name: the last one of the smallest mapping, where the file has ended.
	const mapped = 32 << 10
	for at := range content {
		if bytes.HasPrefix(content[at:], []byte("outer")) {
			binary.NativeEndian.PutUint64(content[at+len("outer"):], uint64(mapped/os.Getpagesize()-1))
		}
	}
	content = content[:min(len(content), mapped-os.Getpagesize())]
	damaged := filepath.Join(filepath.Dir(file), "states.db")
	assert.NilError(t, os.WriteFile(damaged, content, 0o600))
	check := []string{os.Args[0], "--check-database"}
	said, err := exec.Command(check[0], append(check[1:], damaged)...).CombinedOutput()
	assert.Assert(t, bytes.Contains(said, []byte("unexpected fault address")), "%v: %s", err, said)
	assert.NilError(t, DropDamaged(t.Context(), filepath.Dir(file), check, limit))
	_, err = os.Stat(damaged)
	assert.Check(t, is.ErrorIs(err, fs.ErrNotExist), "it is there")
}

// As opposed to a check that is killed: a builder that opened the file would end in the same way.
func TestAFileThatAsksForMoreMemoryThanThereIsIsDropped(t *testing.T) {
	file := database(t)
	content, err := os.ReadFile(file)
	assert.NilError(t, err)
	for page := range slices.Chunk(content, os.Getpagesize()) {
		if binary.NativeEndian.Uint16(page[8:]) == 0x10 { // a list of free pages
			binary.NativeEndian.PutUint16(page[10:], 0xffff) // its length follows the header
			binary.NativeEndian.PutUint64(page[16:], 1<<44)
		}
	}
	damaged := filepath.Join(filepath.Dir(file), "states.db")
	assert.NilError(t, os.WriteFile(damaged, content, 0o600))
	check := []string{os.Args[0], "--check-database"}
	said, err := exec.Command(check[0], append(check[1:], damaged)...).CombinedOutput()
	assert.Assert(t, bytes.Contains(said, []byte("fatal error: out of memory")), "%v: %s", err, said)
	assert.NilError(t, DropDamaged(t.Context(), filepath.Dir(file), check, limit))
	_, err = os.Stat(damaged)
	assert.Check(t, is.ErrorIs(err, fs.ErrNotExist), "it is there")
}

func TestACycleOfPagesIsFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := bolt.Open(file, 0o600, nil)
	assert.NilError(t, err)
	assert.NilError(t, db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket([]byte("more than a page"))
		for at := 0; err == nil && at < 2*os.Getpagesize(); at++ {
			err = bucket.Put(fmt.Appendf(nil, "%08d", at), nil)
		}
		return err
	}))
	assert.NilError(t, db.Close())
	content, err := os.ReadFile(file)
	assert.NilError(t, err)
	for page := range slices.Chunk(content, os.Getpagesize()) {
		if binary.NativeEndian.Uint16(page[8:]) == 1 { // a branch, whose number is made that of its first child
			copy(page[16+8:], page[:8])
		}
	}
	assert.NilError(t, os.WriteFile(file, content, 0o600))
	assert.Check(t, is.ErrorContains(checked(file), "multiple references"))
}

func TestADamagedBucketWithinAnothersPageIsFound(t *testing.T) {
	file := database(t)
	assert.NilError(t, checked(file))
	content, err := os.ReadFile(file)
	assert.NilError(t, err)
	// The bucket's root and sequence, and the number of its page, stand before the page's kind: a leaf.
	const kind = len(innerBucket) + 3*8
	at := bytes.Index(content, []byte(innerBucket))
	if content[at+kind] != 2 {
		t.Fatalf("page of kind %d", content[at+kind])
	}
	content[at+kind] = 1 // a branch
	assert.NilError(t, os.WriteFile(file, content, 0o600))
	if err := checked(file); err == nil {
		t.Error("it counts as whole")
	}
}
