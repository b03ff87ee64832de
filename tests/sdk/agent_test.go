package sdk

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/sdk/steeple"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// attest joins as an agent with a token.
func attest(ctx context.Context, client agentv1.AgentClient, params *agentv1.AttestAgentRequest_Params) (*agentv1.AttestAgentResponse_Result, error) {
	stream, err := client.AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	request := &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}}
	// Whoever was refused already is told so with the end of a file, and hears why when it asks.
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	answer, err := stream.Recv()
	return answer.GetResult(), err
}

func byToken(token string, csr []byte) *agentv1.AttestAgentRequest_Params {
	return &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	}
}

// node is an agent that is nothing but its identity.
type node struct {
	*steeple.Identity
	id *types.SPIFFEID
}

// joined makes a new agent.
func joined(t *testing.T, server *steeple.Server) node {
	t.Helper()
	admin := agentv1.NewAgentClient(server.Admin)
	token := must[*types.JoinToken](t)(admin.CreateJoinToken(within(t), &agentv1.CreateJoinTokenRequest{Ttl: 60}))
	key := steeple.NewKey(t)
	anonymous := agentv1.NewAgentClient(server.Connect(nil))
	result := must[*agentv1.AttestAgentResponse_Result](t)(
		attest(within(t), anonymous, byToken(token.Value, steeple.CSR(t, key, ""))))
	return node{&steeple.Identity{Chain: result.Svid.CertChain, Key: key}, result.Svid.Id}
}

// checkSVID checks that a certificate is for this ID and key, of this trust domain and this life.
func checkSVID(t *testing.T, server *steeple.Server, svid *types.X509SVID, path string, key crypto.Signer, seconds int64) *x509.Certificate {
	t.Helper()
	same(t, svid.Id, spiffeID(path))
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(svid.CertChain[0]))
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != steeple.ID(path) {
		t.Errorf("expected %s, found %v", steeple.ID(path), leaf.URIs)
	}
	equal(t, "expiry", svid.ExpiresAt, leaf.NotAfter.Unix())
	soon(t, "expiry", svid.ExpiresAt, seconds)
	if key, is := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !is || !key.Equal(leaf.PublicKey) {
		t.Error("the certificate is for another key")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range server.Roots() {
		roots.AddCert(root)
	}
	for _, der := range svid.CertChain[1:] {
		between.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: usages}); err != nil {
		t.Error(err)
	}
	return leaf
}

func TestJoinTokens(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin := agentv1.NewAgentClient(server.Admin)
	_, err := admin.CreateJoinToken(within(t), &agentv1.CreateJoinTokenRequest{})
	refused(t, err, codes.InvalidArgument, "ttl")
	_, err = admin.CreateJoinToken(within(t), &agentv1.CreateJoinTokenRequest{Ttl: 5, Token: "a/b"})
	refused(t, err, codes.InvalidArgument, "token")
	_, err = admin.CreateJoinToken(within(t), &agentv1.CreateJoinTokenRequest{Ttl: 5, AgentId: spiffeID("/spire/agent/x")})
	refused(t, err, codes.InvalidArgument, "agent_id")

	wanted := &agentv1.CreateJoinTokenRequest{Ttl: 60, Token: "mine", AgentId: spiffeID("/alias")}
	token := must[*types.JoinToken](t)(admin.CreateJoinToken(within(t), wanted))
	equal(t, "token", token.Value, "mine")
	soon(t, "token", token.ExpiresAt, 60)

	key := steeple.NewKey(t)
	csr := steeple.CSR(t, key, "")
	anonymous := agentv1.NewAgentClient(server.Connect(nil))
	for text, params := range map[string]*agentv1.AttestAgentRequest_Params{
		"missing attestation data":         {Params: &agentv1.AgentX509SVIDParams{Csr: csr}},
		"missing X509-SVID parameters":     {Data: byToken("mine", csr).Data},
		"missing CSR":                      byToken("mine", nil),
		"missing attestation data type":    {Data: &types.AttestationData{Payload: []byte("mine")}, Params: &agentv1.AgentX509SVIDParams{Csr: csr}},
		"missing attestation data payload": byToken("", csr),
		"CSR: ":                            byToken("mine", []byte("none")),
	} {
		_, err = attest(within(t), anonymous, params)
		refused(t, err, codes.InvalidArgument, text)
	}
	// It has to be signed by the key that it is for.
	broken := slices.Clone(csr)
	broken[len(broken)-1] ^= 1
	_, err = attest(within(t), anonymous, byToken("mine", broken))
	refused(t, err, codes.InvalidArgument, "CSR")
	other := byToken("mine", csr)
	other.Data.Type = "unheard-of"
	_, err = attest(within(t), anonymous, other)
	refused(t, err, codes.FailedPrecondition, "unheard-of")
	_, err = attest(within(t), anonymous, byToken("none", csr))
	refused(t, err, codes.InvalidArgument, "join token does not exist or has already been used")

	result := must[*agentv1.AttestAgentResponse_Result](t)(attest(within(t), anonymous, byToken("mine", csr)))
	equal(t, "reattestable", result.Reattestable, false)
	path := "/spire/agent/join_token/mine"
	leaf := checkSVID(t, server, result.Svid, path, key, 4*3600)
	_, err = attest(within(t), anonymous, byToken("mine", csr))
	refused(t, err, codes.InvalidArgument, "join token does not exist or has already been used")

	// The agent as it is listed, and the entry that makes its alias.
	agent := must[*types.Agent](t)(admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: spiffeID(path)}))
	same(t, agent, &types.Agent{
		Id:                   spiffeID(path),
		AttestationType:      "join_token",
		X509SvidSerialNumber: leaf.SerialNumber.String(),
		X509SvidExpiresAt:    leaf.NotAfter.Unix(),
	})
	list := must[*entryv1.ListEntriesResponse](t)(
		entryv1.NewEntryClient(server.Admin).ListEntries(within(t), &entryv1.ListEntriesRequest{}))
	if len(list.Entries) != 1 {
		t.Fatalf("expected one entry, found %v", list.Entries)
	}
	same(t, list.Entries[0], &types.Entry{
		Id:        list.Entries[0].Id,
		SpiffeId:  spiffeID("/alias"),
		ParentId:  spiffeID(path),
		Selectors: []*types.Selector{selector("spiffe_id", steeple.ID(path))},
		CreatedAt: list.Entries[0].CreatedAt,
	})
	soon(t, "created", list.Entries[0].CreatedAt, 0)
}

func TestAnAgentsLife(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin := agentv1.NewAgentClient(server.Admin)
	agent := joined(t, server)
	self := agentv1.NewAgentClient(server.Connect(agent.Identity))

	must[*agentv1.PostStatusResponse](t)(self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1.2.3"}))
	_, err := self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: strings.Repeat("x", 256)})
	refused(t, err, codes.InvalidArgument, "")
	mask := &types.AgentMask{AgentVersion: true}
	found := must[*types.Agent](t)(admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: agent.id, OutputMask: mask}))
	same(t, found, &types.Agent{Id: agent.id, AgentVersion: "1.2.3"})

	// A renewed certificate counts from its first use on, and its predecessor no longer.
	_, err = self.RenewAgent(within(t), &agentv1.RenewAgentRequest{})
	refused(t, err, codes.InvalidArgument, "params")
	_, err = self.RenewAgent(within(t), &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{}})
	refused(t, err, codes.InvalidArgument, "csr")
	key := steeple.NewKey(t)
	params := &agentv1.AgentX509SVIDParams{Csr: steeple.CSR(t, key, "")}
	broken := &agentv1.AgentX509SVIDParams{Csr: slices.Clone(params.Csr)}
	broken.Csr[len(broken.Csr)-1] ^= 1
	_, err = self.RenewAgent(within(t), &agentv1.RenewAgentRequest{Params: broken})
	refused(t, err, codes.InvalidArgument, "CSR")
	renewed := must[*agentv1.RenewAgentResponse](t)(self.RenewAgent(within(t), &agentv1.RenewAgentRequest{Params: params}))
	leaf := checkSVID(t, server, renewed.Svid, agent.id.Path, key, 4*3600)
	again := agentv1.NewAgentClient(server.Connect(&steeple.Identity{Chain: renewed.Svid.CertChain, Key: key}))
	must[*agentv1.PostStatusResponse](t)(self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1.2.4"}))
	must[*agentv1.PostStatusResponse](t)(again.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1.2.5"}))
	_, err = self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1.2.6"})
	denied(t, err, types.PermissionDeniedDetails_AGENT_NOT_ACTIVE)
	found = must[*types.Agent](t)(admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: agent.id}))
	equal(t, "serial", found.X509SvidSerialNumber, leaf.SerialNumber.String())
	equal(t, "version", found.AgentVersion, "1.2.5")

	must[any](t)(admin.BanAgent(within(t), &agentv1.BanAgentRequest{Id: agent.id}))
	_, err = again.RenewAgent(within(t), &agentv1.RenewAgentRequest{Params: params})
	denied(t, err, types.PermissionDeniedDetails_AGENT_BANNED)
	found = must[*types.Agent](t)(admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: agent.id}))
	equal(t, "banned", found.Banned, true)
	equal(t, "serial", found.X509SvidSerialNumber, "")
	must[any](t)(admin.DeleteAgent(within(t), &agentv1.DeleteAgentRequest{Id: agent.id}))
	_, err = again.RenewAgent(within(t), &agentv1.RenewAgentRequest{Params: params})
	denied(t, err, types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
	_, err = admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: agent.id})
	refused(t, err, codes.NotFound, "agent not found")
	_, err = admin.BanAgent(within(t), &agentv1.BanAgentRequest{Id: agent.id})
	refused(t, err, codes.NotFound, "agent not found")
	_, err = admin.DeleteAgent(within(t), &agentv1.DeleteAgentRequest{Id: agent.id})
	refused(t, err, codes.NotFound, "agent not found")
	_, err = admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: spiffeID("/workload")})
	refused(t, err, codes.InvalidArgument, "invalid agent ID")
}

func TestAnAgentThatExpiredIsToldSo(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard, `agent_ttl = "10s"`)
	agent := joined(t, server)
	self := agentv1.NewAgentClient(server.Connect(agent.Identity))
	must[*agentv1.PostStatusResponse](t)(self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1"}))
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(agent.Chain[0]))
	// Its connection was made while the certificate was valid.
	time.Sleep(time.Until(leaf.NotAfter.Add(time.Second + 100*time.Millisecond)))
	_, err := self.PostStatus(within(t), &agentv1.PostStatusRequest{AgentVersion: "1"})
	denied(t, err, types.PermissionDeniedDetails_AGENT_EXPIRED)
}

func TestAgentsAreListed(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin := agentv1.NewAgentClient(server.Admin)
	agents := []node{joined(t, server), joined(t, server), joined(t, server)}
	must[any](t)(admin.BanAgent(within(t), &agentv1.BanAgentRequest{Id: agents[1].id}))

	count := func(filter *agentv1.CountAgentsRequest_Filter) int32 {
		return must[*agentv1.CountAgentsResponse](t)(admin.CountAgents(within(t), &agentv1.CountAgentsRequest{Filter: filter})).Count
	}
	list := func(request *agentv1.ListAgentsRequest) *agentv1.ListAgentsResponse {
		return must[*agentv1.ListAgentsResponse](t)(admin.ListAgents(within(t), request))
	}
	later := time.Now().Add(24 * time.Hour).Format("2006-01-02 15:04:05 -0700 -07")
	for _, row := range []struct {
		what   string
		filter *agentv1.ListAgentsRequest_Filter
		count  int
	}{
		{"all", nil, 3},
		{"type", &agentv1.ListAgentsRequest_Filter{ByAttestationType: "join_token"}, 3},
		{"other type", &agentv1.ListAgentsRequest_Filter{ByAttestationType: "x509pop"}, 0},
		{"banned", &agentv1.ListAgentsRequest_Filter{ByBanned: wrapperspb.Bool(true)}, 1},
		{"not banned", &agentv1.ListAgentsRequest_Filter{ByBanned: wrapperspb.Bool(false)}, 2},
		{"reattestable", &agentv1.ListAgentsRequest_Filter{ByCanReattest: wrapperspb.Bool(true)}, 0},
		{"not reattestable", &agentv1.ListAgentsRequest_Filter{ByCanReattest: wrapperspb.Bool(false)}, 3},
		{"expires", &agentv1.ListAgentsRequest_Filter{ByExpiresBefore: later}, 3},
		{"selectors", &agentv1.ListAgentsRequest_Filter{BySelectorMatch: &types.SelectorMatch{
			Selectors: []*types.Selector{selector("x509pop", "san:a:b")}, Match: types.SelectorMatch_MATCH_ANY}}, 0},
	} {
		equal(t, row.what, len(list(&agentv1.ListAgentsRequest{Filter: row.filter}).Agents), row.count)
		filter := (*agentv1.CountAgentsRequest_Filter)(nil)
		if row.filter != nil {
			filter = &agentv1.CountAgentsRequest_Filter{
				ByAttestationType: row.filter.ByAttestationType, BySelectorMatch: row.filter.BySelectorMatch,
				ByBanned: row.filter.ByBanned, ByCanReattest: row.filter.ByCanReattest, ByExpiresBefore: row.filter.ByExpiresBefore,
			}
		}
		equal(t, row.what, int(count(filter)), row.count)
	}
	_, err := admin.CountAgents(within(t), &agentv1.CountAgentsRequest{Filter: &agentv1.CountAgentsRequest_Filter{ByExpiresBefore: "tomorrow"}})
	refused(t, err, codes.InvalidArgument, "by_expires_before")
	_, err = admin.ListAgents(within(t), &agentv1.ListAgentsRequest{Filter: &agentv1.ListAgentsRequest_Filter{BySelectorMatch: &types.SelectorMatch{}}})
	refused(t, err, codes.InvalidArgument, "selector")
	_, err = admin.ListAgents(within(t), &agentv1.ListAgentsRequest{PageSize: 1, PageToken: "no such"})
	refused(t, err, codes.InvalidArgument, "could not parse token")

	// Page by page, with nothing but their names.
	request := &agentv1.ListAgentsRequest{PageSize: 2, OutputMask: &types.AgentMask{}}
	first := list(request)
	equal(t, "first page", len(first.Agents), 2)
	request.PageToken = first.NextPageToken
	second := list(request)
	equal(t, "second page", len(second.Agents), 1)
	equal(t, "third page", second.NextPageToken, "")
	found := paths(append(first.Agents, second.Agents...), func(agent *types.Agent) string { return agent.Id.Path })
	equal(t, "agents", found, paths(agents, func(agent node) string { return agent.id.Path }))
	same(t, first.Agents[0], &types.Agent{Id: first.Agents[0].Id})
}
