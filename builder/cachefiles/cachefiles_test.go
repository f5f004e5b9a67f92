package cachefiles

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// innerBucket is the name of a bucket that is kept within another's page.
const innerBucket = "the inner bucket"

// database makes a file with a bucket in another's page.
func database(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
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

func TestADamagedBucketWithinAnothersPageIsFound(t *testing.T) {
	file := database(t)
	if err := checked(file); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The bucket's root and sequence, and the number of its page, stand before the page's kind: a leaf.
	const kind = len(innerBucket) + 3*8
	at := bytes.Index(content, []byte(innerBucket))
	if content[at+kind] != 2 {
		t.Fatalf("page of kind %d", content[at+kind])
	}
	content[at+kind] = 1 // a branch
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checked(file); err == nil {
		t.Error("it counts as whole")
	}
}
