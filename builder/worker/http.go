package worker

import (
	"fmt"
	"io"
	nethttp "net/http"

	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/util/tracing"
)

// newHTTPSource is BuildKit's own, whose files are states and no larger than a build context.
func newHTTPSource(w *Worker) (source.Source, error) {
	return http.NewSource(http.Opt{
		CacheAccessor: &manager{Worker: w, description: "downloaded"},
		Transport:     &boundedTransport{tracing.DefaultTransport, w.limits.Context.Bytes},
	})
}

// boundedTransport cuts answers that are larger than its limit.
type boundedTransport struct {
	nethttp.RoundTripper
	limit int64
}

func (t *boundedTransport) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, t.limit, t.limit}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	limit, left int64
}

func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes, the limit of builder.context_size", b.limit)
	}
	return n, err
}
