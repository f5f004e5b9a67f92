package main

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestABuilderWaitsForTheOneBefore(t *testing.T) {
	dir := t.TempDir()
	before, err := lockDirectory(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	locked := make(chan error, 1)
	go func() {
		lock, err := lockDirectory(context.Background(), dir)
		if err == nil {
			lock.Close()
		}
		locked <- err
	}()
	before.Close()
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

func TestABuilderBesideAnotherIsRefused(t *testing.T) {
	dir := t.TempDir()
	before, err := lockDirectory(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = lockDirectory(ctx, dir)
	if !errors.Is(err, syscall.EWOULDBLOCK) || !strings.Contains(err.Error(), "is in use by another builder") {
		t.Errorf("answered %v", err)
	}
}
