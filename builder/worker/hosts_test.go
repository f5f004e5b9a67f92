package worker

import (
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestRegistriesOfCachesAreAsInsecureAsTheBackends(t *testing.T) {
	server := httptest.NewTLSServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) {}))
	defer server.Close()
	plain := httptest.NewServer(server.Config.Handler)
	defer plain.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	for _, list := range [][]string{{host}, {"127.0.0.1"}, {"192.168.0.0/16", "127.0.0.0/8"}} {
		hosts, err := (&Worker{insecureRegistries: list}).Hosts(false)(host)
		if err != nil || len(hosts) != 1 {
			t.Fatalf("%v: %v, %v", list, hosts, err)
		}
		response, err := hosts[0].Client.Get(server.URL)
		if err != nil {
			t.Errorf("%v: %v", list, err)
			continue
		}
		response.Body.Close()
		response, err = hosts[0].Client.Get("https://" + strings.TrimPrefix(plain.URL, "http://"))
		if err != nil {
			t.Errorf("%v without TLS: %v", list, err)
			continue
		}
		response.Body.Close()
	}
	hosts, err := (&Worker{insecureRegistries: []string{"other.example", "192.168.0.0/16"}}).Hosts(false)("registry.example")
	if err != nil || len(hosts) != 1 || hosts[0].Scheme != "https" {
		t.Fatalf("%v, %v", hosts, err)
	}
	if _, err := hosts[0].Client.Get(server.URL); err == nil {
		t.Error("a certificate that nobody vouches for is taken")
	}
	away := httptest.NewServer(nethttp.RedirectHandler("http://169.254.169.254/latest", nethttp.StatusFound))
	defer away.Close()
	_, err = hosts[0].Client.Get(away.URL)
	assert.Check(t, is.ErrorContains(err, "of a metadata service"), "a redirect to a metadata service")
	_, err = (&Worker{}).Hosts(false)("169.254.169.254:80")
	assert.Check(t, is.ErrorContains(err, "of a metadata service"), "a metadata service")
}

func TestATokenServersAnswerIsBounded(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = w.Write(make([]byte, maxToken+1))
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	hosts, err := (&Worker{}).Hosts(true)(host)
	if err != nil || len(hosts) != 1 {
		t.Fatal(hosts, err)
	}
	for accepted, isWhole := range map[string]bool{"": false, "*/*": true} {
		request, err := nethttp.NewRequest(nethttp.MethodGet, server.URL, nil)
		assert.NilError(t, err)
		if accepted != "" {
			request.Header.Set("Accept", accepted)
		}
		response, err := hosts[0].Client.Do(request)
		assert.NilError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		assert.Check(t, (err == nil) == isWhole, "of a request that accepts %q: %v", accepted, err)
	}
}
