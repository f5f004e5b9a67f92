package session

import (
	"context"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	healthResultsKept = 5
	healthOutputLimit = 4096
	// healthUnknown is the exit code of a probe that could not start or timed
	// out.
	healthUnknown = -1
	healthCutMark = "..." // ends truncated output
)

// watchHealth probes on schedule until the returned function is called, which waits a
// limited time for a pending probe. The backend interprets the results.
func (c *Sessions) watchHealth(check *agentv1.HealthCheck, started time.Time) (stop func()) {
	if check == nil || len(check.Args) == 0 || check.IntervalNs == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		healthy := false
		for {
			select {
			case <-time.After(healthPause(check, started, healthy)):
			case <-ctx.Done():
				return
			}
			if c.isPaused() {
				continue
			}
			result := c.probe(ctx, check)
			if ctx.Err() != nil {
				return
			}
			healthy = healthy || result.ExitCode == 0
			c.recordHealth(result)
		}
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(execEndGrace): // its start may hang in a volume whose server is away
		}
	}
}

func (c *Sessions) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// healthPause is the time until the next probe: shorter during the start period
// while the container has never been healthy.
func healthPause(check *agentv1.HealthCheck, started time.Time, healthy bool) time.Duration {
	if !healthy && check.StartIntervalNs > 0 && time.Since(started) < time.Duration(check.StartPeriodNs) {
		return time.Duration(check.StartIntervalNs)
	}
	return time.Duration(check.IntervalNs)
}

// probe runs the health check once.
func (c *Sessions) probe(ctx context.Context, check *agentv1.HealthCheck) *agentv1.HealthResult {
	result := &agentv1.HealthResult{Start: timestamppb.Now()}
	spec := &agentv1.ProcessSpec{Args: check.Args, User: check.User, AdditionalGroups: check.AdditionalGroups}
	process, stdio, err := c.options.Runtime.Exec(ctx, spec, Streams{Stdout: true, Stderr: true})
	if err != nil {
		result.ExitCode, result.Output = healthUnknown, limited(err.Error())
		result.End = timestamppb.Now()
		return result
	}
	defer stdio.Close()
	output := &beginning{limit: healthOutputLimit}
	var copies sync.WaitGroup
	for _, file := range []*os.File{stdio.Stdout, stdio.Stderr} {
		copies.Add(1)
		go func() {
			defer copies.Done()
			io.Copy(output, file)
			drain(output, file)
		}()
	}
	var expired <-chan time.Time
	if check.TimeoutNs > 0 {
		expired = time.After(time.Duration(check.TimeoutNs))
	}
	select {
	case <-process.Done():
		// All output of the process is in its pipes; other holders of them do not
		// delay the result.
		stdio.Stdout.SetReadDeadline(time.Unix(1, 0))
		stdio.Stderr.SetReadDeadline(time.Unix(1, 0))
		copies.Wait()
		result.ExitCode, result.Output = int32(process.Status().Code), output.bytes()
	case <-expired:
		_ = process.Signal(unix.SIGKILL) // fails only if it has just ended
		<-process.Done()
		result.ExitCode, result.Killed = healthUnknown, true
		message := "Health check exceeded timeout (" + time.Duration(check.TimeoutNs).String() + ")"
		if written := output.bytes(); len(written) > 0 {
			message += ": " + string(written)
		}
		result.Output = limited(message)
	case <-ctx.Done():
		_ = process.Signal(unix.SIGKILL)
		<-process.Done()
	}
	result.End = timestamppb.Now()
	return result
}

// drain copies what is in a pipe, without waiting for more.
func drain(output io.Writer, file *os.File) {
	if left := buffered(file); left > 0 && file.SetReadDeadline(time.Time{}) == nil {
		io.CopyN(output, file, int64(left))
	}
}

func (c *Sessions) recordHealth(result *agentv1.HealthResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.health = append(c.health[max(0, len(c.health)-healthResultsKept+1):len(c.health):len(c.health)], result)
	c.hub.publish(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_Health{Health: result}})
}

// limited formats our own text as a probe's output.
func limited(text string) []byte {
	output := &beginning{limit: healthOutputLimit}
	_, _ = output.Write([]byte(text)) // never fails
	return output.bytes()
}

// beginning keeps the first bytes of what is written to it.
type beginning struct {
	mu    sync.Mutex
	kept  []byte
	cut   bool
	limit int
}

func (b *beginning) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keep := min(len(data), b.limit-len(b.kept))
	b.kept = append(b.kept, data[:keep]...)
	b.cut = b.cut || keep < len(data)
	return len(data), nil
}

func (b *beginning) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return append(b.kept[:b.limit-len(healthCutMark):b.limit-len(healthCutMark)], healthCutMark...)
	}
	return slices.Clone(b.kept)
}
