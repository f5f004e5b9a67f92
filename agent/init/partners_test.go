package containerinit_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// partner is a client with the rights of a container on the same network.
func (k *task) partner() agentv1connect.AgentServiceClient { return k.as("partner") }

// as is a client with a certificate for a role.
func (k *task) as(role string) agentv1connect.AgentServiceClient {
	k.t.Helper()
	return dialFrom(k.t, k.network, k.address, k.configAs(role))
}

func (k *task) configAs(role string) *tls.Config {
	k.t.Helper()
	certificate := k.ca.issue(k.id, func(c *x509.Certificate) {
		name, err := url.Parse("sockerless://container/" + k.id + "/" + role)
		must(k.t, err)
		c.URIs = []*url.URL{name}
	})
	return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}}
}

func TestAPartnerSeesAndReachesListenersAndNothingElse(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	port, _ := servesIn(t, k, "tcp")
	partner := k.partner()
	agent, err := netip.ParseAddrPort(k.address)
	must(t, err)

	stream, err := partner.Listeners(patience(t), connect.NewRequest(&agentv1.ListenersRequest{}))
	must(t, err)
	for found := false; !found; {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		for _, listener := range stream.Msg().GetTable().GetListeners() {
			found = found || listener.Port == port
			assert.Check(t, listener.Port != uint32(agent.Port()), "the agent's own listener is told")
		}
	}
	stream.Close()
	p := tunnelTo(t, partner, tcp(port)).opened()
	p.send([]byte("echo\nhello"))
	p.until(5)
	p.end()
	p.toEnd()
	p.over()

	for name, open := range map[string]*agentv1.TunnelOpen{
		"a foreign address": {Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, Host: "169.254.170.2", Port: 80},
		"every address":     {Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_TCP, Host: "0.0.0.0", Port: port},
		"the agent":         tcp(uint32(agent.Port())),
		"datagrams":         {Protocol: agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP, Port: port},
	} {
		if response, err := tunnelTo(t, partner, open).stream.Receive(); err == nil && response.GetError() == nil {
			t.Errorf("a partner reached %s: %v", name, response)
		}
	}
	session := partner.Session(patience(t))
	_ = session.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenExec{OpenExec: &agentv1.OpenExec{
		ExecId: "e", Process: nobody("probe", "id"), AttachStdout: true}}}) // why it fails is what is received
	_, sessionErr := session.Receive()
	_, helloErr := partner.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	_, partnersErr := partner.Partners(patience(t), connect.NewRequest(&agentv1.PartnersRequest{}))
	_, signalErr := partner.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9}))
	for call, err := range map[string]error{"Session": sessionErr, "Hello": helloErr, "Partners": partnersErr, "Signal": signalErr} {
		assert.Check(t, connect.CodeOf(err) == connect.CodePermissionDenied, "%s: %v", call, err)
	}
}

func TestPartnersThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	hello, err := k.client().Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	_, err = x509.ParsePKIXPublicKey(hello.Msg.PartnerKey)
	assert.Check(t, err, "the key for partners")
	id := strings.Repeat("0", 64)
	foreign := k.ca.issue(id, nil).Certificate
	for name, partner := range map[string]*agentv1.Partner{
		"no ID":          {ContainerId: "0", Host: "10.0.0.1", Port: 9111, Pin: make([]byte, 32), Certificates: foreign},
		"no relay":       {ContainerId: id, Pin: make([]byte, 32), Certificates: foreign},
		"no address":     {ContainerId: id, Host: "localhost", Port: 9111, Pin: make([]byte, 32), Certificates: foreign},
		"no port":        {ContainerId: id, Host: "10.0.0.1", Pin: make([]byte, 32), Certificates: foreign},
		"no pin":         {ContainerId: id, Host: "10.0.0.1", Port: 9111, Certificates: foreign},
		"no certificate": {ContainerId: id, Host: "10.0.0.1", Port: 9111, Pin: make([]byte, 32)},
		"another's key":  {ContainerId: id, Host: "10.0.0.1", Port: 9111, Pin: make([]byte, 32), Certificates: foreign},
	} {
		_, err := k.client().Partners(patience(t), connect.NewRequest(&agentv1.PartnersRequest{Partners: []*agentv1.Partner{partner}}))
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "%s: %v", name, err)
	}
}
