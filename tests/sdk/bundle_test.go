package sdk

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// authority is a new one of a trust domain.
func authority(t *testing.T, trustDomain string) *types.X509Certificate {
	t.Helper()
	key := steeple.NewKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{Organization: []string{"SPIFFE"}},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &types.X509Certificate{Asn1: der}
}

func jwtKey(t *testing.T, id string) *types.JWTKey {
	t.Helper()
	der := must[[]byte](t)(x509.MarshalPKIXPublicKey(steeple.NewKey(t).Public()))
	return &types.JWTKey{PublicKey: der, KeyId: id, ExpiresAt: time.Now().Add(time.Hour).Unix()}
}

func foreignBundle(t *testing.T, trustDomain string) *types.Bundle {
	t.Helper()
	return &types.Bundle{
		TrustDomain:     trustDomain,
		X509Authorities: []*types.X509Certificate{authority(t, trustDomain)},
		JwtAuthorities:  []*types.JWTKey{jwtKey(t, "key-of-"+trustDomain)},
		RefreshHint:     300,
		SequenceNumber:  7,
	}
}

func TestTheOwnBundle(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin := bundlev1.NewBundleClient(server.Admin)
	// Anybody may read it.
	anonymous := bundlev1.NewBundleClient(server.Connect(nil))
	bundle := must[*types.Bundle](t)(anonymous.GetBundle(within(t), &bundlev1.GetBundleRequest{}))
	equal(t, "trust domain", bundle.TrustDomain, steeple.TrustDomain)
	equal(t, "authorities", len(bundle.X509Authorities), 1)
	equal(t, "keys", len(bundle.JwtAuthorities), 1)
	equal(t, "WIT keys", len(bundle.WitAuthorities), 0)
	soon(t, "key", bundle.JwtAuthorities[0].ExpiresAt, 24*3600)
	root := must[*x509.Certificate](t)(x509.ParseCertificate(bundle.X509Authorities[0].Asn1))
	equal(t, "authority", root.URIs[0].String(), steeple.ID(""))
	must[any](t)(x509.ParsePKIXPublicKey(bundle.JwtAuthorities[0].PublicKey))
	masked := must[*types.Bundle](t)(admin.GetBundle(within(t), &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{JwtAuthorities: true}}))
	same(t, masked, &types.Bundle{TrustDomain: steeple.TrustDomain, JwtAuthorities: bundle.JwtAuthorities})

	_, err := admin.AppendBundle(within(t), &bundlev1.AppendBundleRequest{})
	refused(t, err, codes.InvalidArgument, "authorities")
	_, err = admin.AppendBundle(within(t), &bundlev1.AppendBundleRequest{X509Authorities: []*types.X509Certificate{{Asn1: []byte("none")}}})
	refused(t, err, codes.InvalidArgument, "")
	more, key := authority(t, steeple.TrustDomain), jwtKey(t, "more")
	grown := must[*types.Bundle](t)(admin.AppendBundle(within(t), &bundlev1.AppendBundleRequest{
		X509Authorities: []*types.X509Certificate{more}, JwtAuthorities: []*types.JWTKey{key},
	}))
	expected := proto.Clone(bundle).(*types.Bundle)
	expected.X509Authorities = append(expected.X509Authorities, more)
	expected.JwtAuthorities = append(expected.JwtAuthorities, key)
	expected.SequenceNumber = grown.SequenceNumber
	same(t, grown, expected)
	if grown.SequenceNumber <= bundle.SequenceNumber {
		t.Errorf("the sequence goes from %d to %d", bundle.SequenceNumber, grown.SequenceNumber)
	}
	equal(t, "count", must[*bundlev1.CountBundlesResponse](t)(admin.CountBundles(within(t), &bundlev1.CountBundlesRequest{})).Count, 1)
	_, err = admin.PublishWITAuthority(within(t), &bundlev1.PublishWITAuthorityRequest{})
	refused(t, err, codes.PermissionDenied, "")
}

func TestFederatedBundles(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin := bundlev1.NewBundleClient(server.Admin)
	b, c := foreignBundle(t, "b.test"), foreignBundle(t, "c.test")
	create := &bundlev1.BatchCreateFederatedBundleRequest{
		Bundle:     []*types.Bundle{b, c, b, foreignBundle(t, steeple.TrustDomain), {TrustDomain: "No"}},
		OutputMask: &types.BundleMask{RefreshHint: true},
	}
	created := must[*bundlev1.BatchCreateFederatedBundleResponse](t)(admin.BatchCreateFederatedBundle(within(t), create)).Results
	equal(t, "results", len(created), 5)
	item(t, created[0].Status, codes.OK, "OK")
	same(t, created[0].Bundle, &types.Bundle{TrustDomain: "b.test", RefreshHint: 300})
	item(t, created[1].Status, codes.OK, "OK")
	item(t, created[2].Status, codes.AlreadyExists, "")
	item(t, created[3].Status, codes.InvalidArgument, "own trust domain")
	item(t, created[4].Status, codes.InvalidArgument, "trust_domain")

	agent := joined(t, server)
	self := bundlev1.NewBundleClient(server.Connect(agent.Identity))
	got := must[*types.Bundle](t)(self.GetFederatedBundle(within(t), &bundlev1.GetFederatedBundleRequest{TrustDomain: "b.test"}))
	same(t, got, b)
	_, err := self.GetFederatedBundle(within(t), &bundlev1.GetFederatedBundleRequest{TrustDomain: "d.test"})
	refused(t, err, codes.NotFound, "bundle not found")
	_, err = self.GetFederatedBundle(within(t), &bundlev1.GetFederatedBundleRequest{TrustDomain: steeple.TrustDomain})
	refused(t, err, codes.InvalidArgument, "own trust domain")

	// Pages have as many as were asked for.
	first := must[*bundlev1.ListFederatedBundlesResponse](t)(admin.ListFederatedBundles(within(t), &bundlev1.ListFederatedBundlesRequest{PageSize: 1}))
	equal(t, "page", len(first.Bundles), 1)
	second := must[*bundlev1.ListFederatedBundlesResponse](t)(admin.ListFederatedBundles(within(t),
		&bundlev1.ListFederatedBundlesRequest{PageSize: 1, PageToken: first.NextPageToken, OutputMask: &types.BundleMask{}}))
	equal(t, "page", len(second.Bundles), 1)
	equal(t, "listed", first.Bundles[0].TrustDomain+" "+second.Bundles[0].TrustDomain, "b.test c.test")
	same(t, first.Bundles[0], b)
	_, err = admin.ListFederatedBundles(within(t), &bundlev1.ListFederatedBundlesRequest{PageSize: 1, PageToken: "no such"})
	refused(t, err, codes.InvalidArgument, "could not parse token")

	changed := &types.Bundle{TrustDomain: "b.test", RefreshHint: 60}
	update := &bundlev1.BatchUpdateFederatedBundleRequest{
		Bundle:    []*types.Bundle{changed, {TrustDomain: "d.test", RefreshHint: 60}},
		InputMask: &types.BundleMask{RefreshHint: true},
	}
	updated := must[*bundlev1.BatchUpdateFederatedBundleResponse](t)(admin.BatchUpdateFederatedBundle(within(t), update)).Results
	item(t, updated[0].Status, codes.OK, "OK")
	// Whoever compares sequences is to see it.
	b.RefreshHint, b.SequenceNumber = 60, 8
	same(t, updated[0].Bundle, b)
	item(t, updated[1].Status, codes.NotFound, "bundle not found")

	d := foreignBundle(t, "d.test")
	set := must[*bundlev1.BatchSetFederatedBundleResponse](t)(
		admin.BatchSetFederatedBundle(within(t), &bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{c, d, {}}})).Results
	item(t, set[0].Status, codes.OK, "OK")
	same(t, set[1].Bundle, d)
	item(t, set[2].Status, codes.InvalidArgument, "trust_domain")
	equal(t, "count", must[*bundlev1.CountBundlesResponse](t)(admin.CountBundles(within(t), &bundlev1.CountBundlesRequest{})).Count, 4)
}

func TestABundleIsDeletedWithWhatNeedsIt(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	admin, entries := bundlev1.NewBundleClient(server.Admin), entryv1.NewEntryClient(server.Admin)
	federate(t, server, "b.test", "c.test")
	one, two := entry("/one", "uid:1"), entry("/two", "uid:1")
	one.FederatesWith, two.FederatesWith = []string{"b.test"}, []string{"c.test"}
	created := create(t, server, one, two)
	remove := func(mode bundlev1.BatchDeleteFederatedBundleRequest_Mode, names ...string) []*bundlev1.BatchDeleteFederatedBundleResponse_Result {
		request := &bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: names, Mode: mode}
		return must[*bundlev1.BatchDeleteFederatedBundleResponse](t)(admin.BatchDeleteFederatedBundle(within(t), request)).Results
	}
	kept := remove(bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT, "b.test", "none.test", steeple.TrustDomain)
	item(t, kept[0].Status, codes.FailedPrecondition, "federated with 1 registration entr")
	equal(t, "name", kept[0].TrustDomain, "b.test")
	item(t, kept[1].Status, codes.NotFound, "")
	item(t, kept[2].Status, codes.InvalidArgument, "")
	item(t, remove(bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE, "b.test")[0].Status, codes.OK, "OK")
	left := must[*types.Entry](t)(entries.GetEntry(within(t), &entryv1.GetEntryRequest{Id: created[0].Id}))
	equal(t, "federates with", len(left.FederatesWith), 0)
	item(t, remove(bundlev1.BatchDeleteFederatedBundleRequest_DELETE, "c.test")[0].Status, codes.OK, "OK")
	_, err := entries.GetEntry(within(t), &entryv1.GetEntryRequest{Id: created[1].Id})
	refused(t, err, codes.NotFound, "entry not found")
}
