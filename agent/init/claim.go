package containerinit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

var _ server.Claimable = (*container)(nil)

// standing is in whose name the agent is reached, and by whom.
type standing struct {
	certificate tls.Certificate
	rule        *clientRule
}

// newStanding makes a key for a container's name.
func newStanding(containerID string, caPin []byte) (*standing, error) {
	certificate, err := newCertificate(containerID, time.Now())
	if err != nil {
		return nil, err
	}
	return &standing{certificate, &clientRule{pin: caPin, containerID: containerID, now: time.Now}}, nil
}

// standings has the agent's current standing. Connections admitted under an earlier
// one are refused every call.
type standings struct{ atomic.Pointer[standing] }

// tlsConfig applies the current standing to each new connection.
func (s *standings) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.Load()
			return now.rule.tlsConfig(now.certificate), nil
		},
	}
}

// Claim assigns a prepared agent to a container, once. Only its key belongs to the
// earlier name, and is replaced.
func (c *container) Claim(_ context.Context, request *agentv1.ClaimRequest) (*agentv1.ClaimResponse, error) {
	if !containerIDForm().MatchString(request.ContainerId) {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("container ID %q: 64 hexadecimal digits are wanted", request.ContainerId))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.leaving:
		return nil, server.ErrLeaving
	case !c.unclaimed:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this agent waits for no container: it was not prepared, or has one"))
	}
	next, err := newStanding(request.ContainerId, c.settings.pin)
	if err != nil {
		return nil, err
	}
	c.unclaimed = false
	c.hello = proto.CloneOf(c.hello) // a pending answer may use the old one
	c.hello.ContainerId = request.ContainerId
	c.standings.Store(next)
	if c.callAs != nil {
		c.callAs(request.ContainerId, next.certificate, request.CallToken)
	}
	c.logger.Info("the agent is a container's", "container", request.ContainerId)
	c.waits++
	if limit := time.Duration(request.StartTimeoutSeconds) * time.Second; limit > 0 {
		go c.awaitStart(limit, c.waits)
	}
	return &agentv1.ClaimResponse{Pin: pinOf(next.certificate)}, nil
}
