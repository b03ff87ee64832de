package sdk

import (
	"testing"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	trustdomainv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func web(trustDomain string) *types.FederationRelationship {
	return &types.FederationRelationship{
		TrustDomain:           trustDomain,
		BundleEndpointUrl:     "https://" + trustDomain + "/bundle",
		BundleEndpointProfile: &types.FederationRelationship_HttpsWeb{HttpsWeb: &types.HTTPSWebProfile{}},
	}
}

func spiffe(t *testing.T, trustDomain string) *types.FederationRelationship {
	relationship := web(trustDomain)
	relationship.BundleEndpointProfile = &types.FederationRelationship_HttpsSpiffe{
		HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "spiffe://" + trustDomain + "/endpoint"},
	}
	relationship.TrustDomainBundle = foreignBundle(t, trustDomain)
	return relationship
}

func TestFederationRelationships(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := trustdomainv1.NewTrustDomainClient(server.Admin)
	b, c, d := web("b.test"), spiffe(t, "c.test"), web("d.test")
	without := func(change func(*types.FederationRelationship)) *types.FederationRelationship {
		bad := web("bad.test")
		change(bad)
		return bad
	}
	rows := []struct {
		relationship *types.FederationRelationship
		code         codes.Code
	}{
		{b, codes.OK},
		{c, codes.OK},
		{d, codes.OK},
		{b, codes.AlreadyExists},
		{web(steeple.TrustDomain), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) { r.TrustDomain = "" }), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) { r.BundleEndpointUrl = "http://bad.test" }), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) { r.BundleEndpointUrl = "https://me:secret@bad.test" }), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) { r.BundleEndpointProfile = nil }), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) { r.TrustDomainBundle = foreignBundle(t, "e.test") }), codes.InvalidArgument},
		{without(func(r *types.FederationRelationship) {
			r.BundleEndpointProfile = &types.FederationRelationship_HttpsSpiffe{HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "no"}}
		}), codes.InvalidArgument},
	}
	request := &trustdomainv1.BatchCreateFederationRelationshipRequest{}
	for _, row := range rows {
		request.FederationRelationships = append(request.FederationRelationships, row.relationship)
	}
	created := must[*trustdomainv1.BatchCreateFederationRelationshipResponse](t)(
		client.BatchCreateFederationRelationship(within(t), request)).Results
	equal(t, "results", len(created), len(rows))
	for i, row := range rows {
		item(t, created[i].Status, row.code, "")
	}
	same(t, created[0].FederationRelationship, b)
	same(t, created[1].FederationRelationship, c)

	get := func(name string, mask *types.FederationRelationshipMask) (*types.FederationRelationship, error) {
		return client.GetFederationRelationship(within(t),
			&trustdomainv1.GetFederationRelationshipRequest{TrustDomain: name, OutputMask: mask})
	}
	found := must[*types.FederationRelationship](t)(get("c.test", nil))
	same(t, found, c)
	found = must[*types.FederationRelationship](t)(get("c.test", &types.FederationRelationshipMask{BundleEndpointProfile: true}))
	same(t, found, &types.FederationRelationship{TrustDomain: "c.test", BundleEndpointProfile: c.BundleEndpointProfile})
	_, err := get("none.test", nil)
	refused(t, err, codes.NotFound, "")
	_, err = get("No", nil)
	refused(t, err, codes.InvalidArgument, "trust_domain")
	// The bundle that came along is there.
	bundle := must[*types.Bundle](t)(bundlev1.NewBundleClient(server.Admin).GetFederatedBundle(within(t),
		&bundlev1.GetFederatedBundleRequest{TrustDomain: "c.test"}))
	same(t, bundle, c.TrustDomainBundle)

	list := func(request *trustdomainv1.ListFederationRelationshipsRequest) *trustdomainv1.ListFederationRelationshipsResponse {
		return must[*trustdomainv1.ListFederationRelationshipsResponse](t)(client.ListFederationRelationships(within(t), request))
	}
	first := list(&trustdomainv1.ListFederationRelationshipsRequest{PageSize: 2})
	equal(t, "page", len(first.FederationRelationships), 2)
	second := list(&trustdomainv1.ListFederationRelationshipsRequest{PageSize: 2, PageToken: first.NextPageToken,
		OutputMask: &types.FederationRelationshipMask{}})
	same(t, second.FederationRelationships[0], &types.FederationRelationship{TrustDomain: "d.test"})
	equal(t, "pages", second.NextPageToken, "")
	_, err = client.ListFederationRelationships(within(t), &trustdomainv1.ListFederationRelationshipsRequest{PageToken: "no such", PageSize: 1})
	refused(t, err, codes.InvalidArgument, "could not parse token")

	changed := &types.FederationRelationship{TrustDomain: "b.test", BundleEndpointUrl: "https://elsewhere.test/"}
	updated := must[*trustdomainv1.BatchUpdateFederationRelationshipResponse](t)(client.BatchUpdateFederationRelationship(within(t),
		&trustdomainv1.BatchUpdateFederationRelationshipRequest{
			FederationRelationships: []*types.FederationRelationship{changed, {TrustDomain: "none.test", BundleEndpointUrl: "https://x.test/"}},
			InputMask:               &types.FederationRelationshipMask{BundleEndpointUrl: true},
		})).Results
	item(t, updated[0].Status, codes.OK, "OK")
	b.BundleEndpointUrl = "https://elsewhere.test/"
	same(t, updated[0].FederationRelationship, b)
	item(t, updated[1].Status, codes.NotFound, "")

	refresh := func(name string) error {
		_, err := client.RefreshBundle(within(t), &trustdomainv1.RefreshBundleRequest{TrustDomain: name})
		return err
	}
	refused(t, refresh("none.test"), codes.NotFound, "")
	refused(t, refresh("b.test"), codes.Unimplemented, "")

	deleted := must[*trustdomainv1.BatchDeleteFederationRelationshipResponse](t)(client.BatchDeleteFederationRelationship(within(t),
		&trustdomainv1.BatchDeleteFederationRelationshipRequest{TrustDomains: []string{"c.test", "none.test"}})).Results
	item(t, deleted[0].Status, codes.OK, "OK")
	equal(t, "deleted", deleted[0].TrustDomain, "c.test")
	item(t, deleted[1].Status, codes.NotFound, "")
	equal(t, "not deleted", deleted[1].TrustDomain, "none.test")
	// Its bundle stays.
	_, err = bundlev1.NewBundleClient(server.Admin).GetFederatedBundle(within(t), &bundlev1.GetFederatedBundleRequest{TrustDomain: "c.test"})
	steeple.Must(t, err)
}
