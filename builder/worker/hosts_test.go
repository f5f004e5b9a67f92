package worker

import (
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRegistriesOfCachesAreAsInsecureAsTheBackends(t *testing.T) {
	server := httptest.NewTLSServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) {}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	for _, list := range [][]string{{host}, {"127.0.0.1"}, {"192.168.0.0/16", "127.0.0.0/8"}} {
		hosts, err := (&Worker{insecureRegistries: list}).Hosts()(host)
		if err != nil || len(hosts) != 1 {
			t.Fatalf("%v: %v, %v", list, hosts, err)
		}
		response, err := hosts[0].Client.Get(server.URL)
		if err != nil {
			t.Errorf("%v: %v", list, err)
			continue
		}
		response.Body.Close()
	}
	hosts, err := (&Worker{insecureRegistries: []string{"other.example", "192.168.0.0/16"}}).Hosts()("registry.example")
	if err != nil || len(hosts) != 1 || hosts[0].Scheme != "https" {
		t.Fatalf("%v, %v", hosts, err)
	}
	if _, err := hosts[0].Client.Get(server.URL); err == nil {
		t.Error("a certificate that nobody vouches for is taken")
	}
	if _, err := (&Worker{}).Hosts()("169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "of a metadata service") {
		t.Errorf("a metadata service: %v", err)
	}
}
