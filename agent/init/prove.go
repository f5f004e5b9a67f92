package containerinit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

var _ server.Provable = (*container)(nil)

const (
	// roleCredentials is where ECS serves the credentials of a task's role, below
	// the path in roleVariable.
	roleCredentials = "http://169.254.170.2"
	roleVariable    = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
	// agentHeader binds the signed request to the agent's key.
	agentHeader = "sockerless-agent"
	// maxCredentials bounds the size of the credentials' response.
	maxCredentials     = 64 << 10
	credentialsTimeout = 5 * time.Second
	emptySHA256        = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Prove proves to an admitted client in which task the agent runs.
func (c *container) Prove(ctx context.Context, request *agentv1.ProveRequest) (*agentv1.ProveResponse, error) {
	if asked := request.CallerIdentity; asked != nil {
		query, err := signCallerIdentity(ctx, asked, pinOf(c.standings.Load().certificate))
		if err != nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, err)
		}
		return &agentv1.ProveResponse{Proof: &agentv1.ProveResponse_CallerIdentityQuery{CallerIdentityQuery: query}}, nil
	}
	if c.settings.callback == nil || c.settings.callback.secret == "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the platform has delivered no secret in SOCKERLESS_CALLBACK_SECRET"))
	}
	return &agentv1.ProveResponse{Proof: &agentv1.ProveResponse_Secret{Secret: c.settings.callback.secret}}, nil
}

// signCallerIdentity signs a GetCallerIdentity request with the task role's
// credentials, only for this agent and this nonce, and returns its query.
func signCallerIdentity(ctx context.Context, asked *agentv1.CallerIdentityChallenge, pin []byte) (string, error) {
	credentials, err := taskCredentials(ctx)
	if err != nil {
		return "", err
	}
	where := url.URL{Scheme: "https", Host: asked.Host, Path: "/", RawQuery: url.Values{
		"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}, "X-Amz-Expires": {"60"}}.Encode()}
	call, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return "", err
	}
	call.Header.Set(agentHeader, asked.Nonce+"."+hex.EncodeToString(pin))
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, call, emptySHA256, "sts", asked.Region, time.Now(),
		func(options *v4.SignerOptions) { options.DisableHeaderHoisting = true })
	if err != nil {
		return "", fmt.Errorf("sign GetCallerIdentity: %w", err)
	}
	parsed, err := url.Parse(signed)
	if err != nil {
		return "", err
	}
	return parsed.RawQuery, nil
}

// taskCredentials requests the task role's credentials from ECS.
func taskCredentials(ctx context.Context) (aws.Credentials, error) {
	path := os.Getenv(roleVariable)
	if path == "" {
		return aws.Credentials{}, errors.New("the task has no role")
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, roleCredentials+path, nil)
	if err != nil {
		return aws.Credentials{}, err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("ask for the credentials of the task's role: %w", err)
	}
	defer response.Body.Close()
	var told struct{ AccessKeyId, SecretAccessKey, Token string }
	if err := json.NewDecoder(io.LimitReader(response.Body, maxCredentials)).Decode(&told); err != nil || told.AccessKeyId == "" {
		return aws.Credentials{}, fmt.Errorf("the credentials of the task's role were answered with %s", response.Status)
	}
	return aws.Credentials{AccessKeyID: told.AccessKeyId, SecretAccessKey: told.SecretAccessKey, SessionToken: told.Token}, nil
}
