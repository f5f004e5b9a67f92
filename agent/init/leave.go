package containerinit

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// shutdownLimit bounds the closing of connections after the last call.
const shutdownLimit = 2 * time.Second

// stopSignals are the signals by which a platform may stop PID 1: the image's
// stop signal, or else SIGTERM.
func stopSignals(own unix.Signal) []os.Signal {
	signals := []os.Signal{own, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGPWR, unix.SIGWINCH}
	for number := realTimeMin + 1; number <= realTimeMax; number++ { // the Go runtime keeps the first for itself
		signals = append(signals, unix.Signal(number))
	}
	return signals
}

// stay serves until the agent may leave, and returns its exit code:
//
//   - Until the first start, at most for the start timeout: a backend that died
//     meanwhile cannot complete what it has begun.
//   - While the main process runs; a stop signal is forwarded as the container's
//     own, and followed by SIGKILL after its stop timeout.
//   - Then for the linger: files and log are available, and a new start runs in
//     this container. A stop signal ends it, or, if it has ended the main process,
//     shortens it to the drain timeout.
//   - And while somebody watches, at most for the drain timeout: a backend
//     closes its watch when it needs nothing more. If nobody has watched since
//     the end, the agent waits as long for a watcher.
//   - A Release ends all of this at once.
func (c *container) stay(signals <-chan os.Signal, launcher *launcher, logger *slog.Logger) (exitCode int) {
	go c.passOn(signals, launcher, logger)
	if c.settings.await > 0 {
		go c.awaitStart(c.settings.await, 0)
	}
	for {
		_ = c.Sessions.WaitEnded(context.Background()) // only ctx can fail it
		exitCode = c.exitCode()
		if c.lingerOut() {
			return exitCode
		}
	}
}

// awaitStart lets the agent leave if no start arrives in time. A pending start
// may still be refused, so it is waited for first. wait is the wait's number: none
// outlasts a claim.
func (c *container) awaitStart(limit time.Duration, wait int) {
	time.Sleep(limit)
	for {
		c.mu.Lock()
		if c.waits != wait {
			c.mu.Unlock()
			return
		}
		if c.starting == 0 {
			defer c.mu.Unlock()
			if state := c.Sessions.State(); state.Started != nil || state.Failure != nil || c.leaving {
				return
			}
			message := fmt.Sprintf("the agent was not told what to run within %s", limit)
			c.logger.Error(message)
			c.letGo(&session.StartError{ExitCode: exitFailed, Message: message})
			return
		}
		changed := c.changed.Next()
		c.mu.Unlock()
		<-changed
	}
}

// passOn handles the platform's signals.
func (c *container) passOn(signals <-chan os.Signal, launcher *launcher, logger *slog.Logger) {
	for first := true; ; first = false {
		caught := (<-signals).(unix.Signal)
		logger.Info("the platform says stop", "signal", unix.SignalName(caught))
		launcher.stop()
		state := c.Sessions.State()
		if state.Started == nil && state.Failure == nil {
			c.Sessions.FailStart(&session.StartError{ExitCode: 128 + int(caught), Message: errStopped.Message})
		} else if state.Exit == nil && state.Failure == nil {
			c.stopMain(first)
		}
		if first {
			close(c.stopped)
		}
	}
}

// stopMain forwards a stop to the main process, which may have just ended.
func (c *container) stopMain(first bool) {
	c.mu.Lock()
	c.platformStop = true
	terms := c.terms
	c.mu.Unlock()
	send := func(signal unix.Signal) {
		_ = c.Sessions.Signal(context.Background(), &agentv1.SignalRequest{Signal: int32(signal)})
	}
	send(terms.stopSignal)
	_ = c.Sessions.Resume(context.Background()) // a paused process could not stop
	if first && terms.stopTimeout >= 0 {
		time.AfterFunc(terms.stopTimeout, func() { send(unix.SIGKILL) }) // nothing starts after a stop
	}
}

// lingerOut waits, after the main process's end, until the agent may leave (true)
// or the main process is started again (false).
func (c *container) lingerOut() bool {
	ended := time.Now()
	c.mu.Lock()
	c.watched = c.watchers > 0
	generation, linger := c.generation, c.terms.linger
	c.mu.Unlock()
	isStopping := false
	for {
		c.mu.Lock()
		if c.released {
			c.mu.Unlock()
			return true
		}
		if c.generation != generation {
			c.mu.Unlock()
			return false
		}
		select {
		case <-c.stopped:
			isStopping = true
			linger = c.lingerOfStopped(linger)
		default:
		}
		waiting := linger
		if c.watchers > 0 || !c.watched {
			waiting = max(linger, c.terms.drain)
		}
		left := waiting - time.Since(ended)
		if left <= 0 && c.starting == 0 {
			c.leaving = true
			c.mu.Unlock()
			return true
		}
		changed, noMoreLinger := c.changed.Next(), c.stopped
		c.mu.Unlock()
		if isStopping {
			noMoreLinger = nil
		}
		timer := time.NewTimer(max(left, time.Millisecond))
		select {
		case <-changed:
		case <-noMoreLinger:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// lingerOfStopped is how much of the linger a stop by the platform leaves: the log
// of a main process that it has ended is still to be taken.
func (c *container) lingerOfStopped(linger time.Duration) time.Duration {
	if !c.platformStop {
		return 0
	}
	return min(linger, c.terms.drain)
}

// exitCode is the user's process's. A platform that reports only success or
// failure must not take a process that it has stopped itself for a success: that
// may have exited cleanly with its work undone.
func (c *container) exitCode() int {
	state := c.Sessions.State()
	if state.Exit != nil {
		if state.Exit.Code == 0 && c.stoppedByPlatform() {
			return exitUnfinished
		}
		return int(state.Exit.Code)
	}
	return int(state.Failure.GetExitCode())
}

// isAwaited reports whether clients whose connections are cut may still want what
// the agent has said: not if the backend has released it, since they would be back
// by then, nor if the platform stops it, which kills soon and would lose the exit code.
func (c *container) isAwaited() bool {
	if change.IsClosed(c.stopped) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.released
}

// leave lets pending calls finish, tells the watchers and ends.
func leave(self *container, gate *server.Gate, webs []*http.Server, drain func(ctx context.Context, isPatient func() bool), logger *slog.Logger) {
	gate.Close()
	self.Sessions.RefuseNext(&session.StartError{ExitCode: 128, Message: server.ErrLeaving.Message()})
	ctx, cancel := context.WithTimeout(context.Background(), self.terms.drain)
	defer cancel()
	if err := gate.WaitIdle(ctx); err != nil {
		logger.Warn("a slow client is cut")
	}
	ctx, cancelOutput := context.WithTimeout(context.Background(), max(self.terms.drain, defaultDrain))
	defer cancelOutput()
	if err := self.platform.wait(ctx); err != nil {
		logger.Warn("the platform did not take all output in time")
	}
	self.Sessions.Release()
	ctx, cancelShutdown := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancelShutdown()
	for _, web := range webs {
		if web.Shutdown(ctx) != nil {
			web.Close()
		}
	}
	ctx, cancelDrain := context.WithTimeout(context.Background(), self.terms.drain)
	defer cancelDrain()
	drain(ctx, self.isAwaited)
}
