package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
)

func TestABuilderWaitsForTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	before, err := lockDirectory(context.Background(), dir)
	assert.NilError(t, err)
	locked := make(chan error, 1)
	go func() {
		lock, err := lockDirectory(context.Background(), dir)
		if err == nil {
			lock.Close()
		}
		locked <- err
	}()
	before.Close()
	assert.Check(t, <-locked)
}

func TestABuilderBesideAnotherIsRefused(t *testing.T) {
	dir := t.TempDir()
	before, err := lockDirectory(context.Background(), dir)
	assert.NilError(t, err)
	defer before.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = lockDirectory(ctx, dir)
	if !errors.Is(err, syscall.EWOULDBLOCK) || !strings.Contains(err.Error(), "is in use by another builder") {
		t.Errorf("answered %v", err)
	}
}
