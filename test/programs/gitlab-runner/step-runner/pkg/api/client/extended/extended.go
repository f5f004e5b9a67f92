// Package extended refuses to reach a step runner.
package extended

import (
	"context"
	"errors"
	"io"

	"gitlab.com/gitlab-org/step-runner/pkg/api/client"
)

var errUnavailable = errors.New("this runner is built without steps")

type FollowOutput struct{ Logs io.Writer }

type Client struct{}

func New(any) (*Client, error) { return nil, errUnavailable }

func (*Client) CloseConn() error { return errUnavailable }

func (*Client) Cancel(context.Context, string) error { return errUnavailable }

func (*Client) RunAndFollow(context.Context, *client.RunRequest, *FollowOutput) (client.Status, error) {
	return client.Status{}, errUnavailable
}
