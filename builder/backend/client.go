// Package backend is a client of the builder's backend, using sockerless.backend.v1 like any other client.
package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1/backendv1connect"
)

// Label marks a build's containers and images, which listings and prunes omit unless a filter names the label.
const Label = "sockerless.build"

// containerIDKey is the metadata key of the container for a relay.
const containerIDKey = "sockerless-container-id"

// maxImages bounds the images that the backend describes at once: each description has up to half a mebibyte.
const maxImages = 16

// Client is a connection to one backend, which may restart: calls that are safe to repeat are repeated then. It is safe
// for concurrent use.
type Client struct {
	Containers backendv1connect.ContainerServiceClient
	Images     backendv1connect.ImageServiceClient
	Volumes    backendv1connect.VolumeServiceClient
	System     backendv1connect.SystemServiceClient
	// uploads sends calls in the form that the backend reads without copying: Connect's without compression.
	uploads backendv1connect.ImageServiceClient

	// Bound the answers that the backend makes at once: it makes all that it is asked for in one turn of its event loop.
	images, volumes *semaphore.Weighted
	lists           singleflight.Group

	socket string
	mu     sync.Mutex
	dialed map[string]*http.Client
}

// Dial returns a client of the backend at a unix socket; the first call connects.
func Dial(address string) (*Client, error) {
	socket, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return nil, fmt.Errorf("the backend's address must be unix:///path, not %q", address)
	}
	client := &Client{
		images: semaphore.NewWeighted(maxImages), volumes: semaphore.NewWeighted(1), socket: socket, dialed: map[string]*http.Client{},
	}
	over := client.over(socket)
	options := []connect.ClientOption{connect.WithGRPC(), connect.WithInterceptors(connect.UnaryInterceptorFunc(waitingForRestarts))}
	client.Containers = backendv1connect.NewContainerServiceClient(over, baseURL, options...)
	client.Images = backendv1connect.NewImageServiceClient(over, baseURL, options...)
	client.uploads = backendv1connect.NewImageServiceClient(over, baseURL, connect.WithAcceptCompression("gzip", nil, nil))
	client.Volumes = backendv1connect.NewVolumeServiceClient(over, baseURL, options...)
	client.System = backendv1connect.NewSystemServiceClient(over, baseURL, options...)
	return client, nil
}

// baseURL has a dummy host: the transport dials a socket.
const baseURL = "http://sockerless"

func (c *Client) over(socket string) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.dialed[socket]; ok {
		return known
	}
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	made := &http.Client{Transport: transport}
	// Agents come and go with their containers: only the backend's connection is kept.
	if socket == c.socket {
		c.dialed[socket] = made
	} else {
		transport.IdleConnTimeout = agentIdle
	}
	return made
}

// agentIdle is how long an idle connection to an agent is kept. It closes by itself, since the connection of a cut call
// is not idle yet when its caller returns.
const agentIdle = time.Second

// agentOf returns a client of an endpoint's agent; `done` closes its connection.
func (c *Client) agentOf(endpoint *backendv1.AgentEndpoint) (agentv1connect.AgentServiceClient, func(), error) {
	socket := c.socket
	switch address := endpoint.GetAddress().(type) {
	case *backendv1.AgentEndpoint_UnixPath:
		socket = address.UnixPath
	case *backendv1.AgentEndpoint_Relay:
	default:
		return nil, nil, fmt.Errorf("the backend named an agent that a builder cannot dial: %T", address)
	}
	over := c.over(socket)
	done := func() {
		if socket != c.socket {
			over.CloseIdleConnections()
		}
	}
	id := connect.WithInterceptors(containerID(endpoint.GetContainerId()))
	return agentv1connect.NewAgentServiceClient(over, baseURL, connect.WithGRPC(), id), done, nil
}

// containerID sends the container's ID with every call.
type containerID string

func (id containerID) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set(containerIDKey, string(id))
		return next(ctx, request)
	}
}

func (id containerID) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set(containerIDKey, string(id))
		return conn
	}
}

func (id containerID) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// reach describes what a builder can dial itself, being on the backend's machine.
func reach(failed *uint64) *backendv1.AgentAccess {
	return &backendv1.AgentAccess{Reach: backendv1.AgentReach_AGENT_REACH_LOCAL, FailedGeneration: failed}
}

// Is reports whether an error of the backend has the code.
func Is(err error, code connect.Code) bool {
	return err != nil && connect.CodeOf(err) == code
}

// Plain removes the code's name from an error of the backend, whose message is Docker's.
func Plain(err error) error {
	if failure := new(connect.Error); errors.As(err, &failure) {
		return errors.New(failure.Message())
	}
	return err
}

// errCut means that a stream ended without its last message.
var errCut = fmt.Errorf("the backend cut the stream: %w", io.ErrUnexpectedEOF)
