package sdk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// checkToken checks what a token says, and its signature with a key of the bundle.
func checkToken(t *testing.T, server *steeple.Server, svid *types.JWTSVID, path string, seconds int64, audience ...string) map[string]any {
	t.Helper()
	same(t, svid.Id, spiffeID(path))
	parts := strings.Split(svid.Token, ".")
	decode := func(part string, into any) {
		t.Helper()
		steeple.Must(t, json.Unmarshal(must[[]byte](t)(base64.RawURLEncoding.DecodeString(part)), into))
	}
	header, claims := map[string]string{}, map[string]any{}
	decode(parts[0], &header)
	decode(parts[1], &claims)
	equal(t, "algorithm", header["alg"], "ES256")
	equal(t, "type", header["typ"], "JWT")
	equal(t, "sub", claims["sub"].(string), steeple.ID(path))
	equal(t, "exp", int64(claims["exp"].(float64)), svid.ExpiresAt)
	equal(t, "iat", int64(claims["iat"].(float64)), svid.IssuedAt)
	soon(t, "exp", svid.ExpiresAt, seconds)
	var found []string
	for _, name := range claims["aud"].([]any) {
		found = append(found, name.(string))
	}
	equal(t, "aud", slices.Equal(found, audience), true)

	bundle := must[*types.Bundle](t)(bundlev1.NewBundleClient(server.Admin).GetBundle(within(t), &bundlev1.GetBundleRequest{}))
	signature := must[[]byte](t)(base64.RawURLEncoding.DecodeString(parts[2]))
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	verified := slices.ContainsFunc(bundle.JwtAuthorities, func(key *types.JWTKey) bool {
		public := must[any](t)(x509.ParsePKIXPublicKey(key.PublicKey)).(*ecdsa.PublicKey)
		return key.KeyId == header["kid"] && ecdsa.Verify(public, digest[:], r, s)
	})
	equal(t, "verified", verified, true)
	return claims
}

func TestAnAdminMints(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard, `jwt_issuer = "https://issuer.test"`)
	client := svidv1.NewSVIDClient(server.Admin)
	key := steeple.NewKey(t)
	csr := steeple.CSR(t, key, "/minted", "a.example.org")
	minted := must[*svidv1.MintX509SVIDResponse](t)(client.MintX509SVID(within(t), &svidv1.MintX509SVIDRequest{Csr: csr, Ttl: 120}))
	leaf := checkSVID(t, server, minted.Svid, "/minted", key, 120)
	equal(t, "DNS names", strings.Join(leaf.DNSNames, " "), "a.example.org")
	equal(t, "usage", leaf.KeyUsage, x509.KeyUsageDigitalSignature)
	for text, csr := range map[string][]byte{
		"malformed":   []byte("none"),
		"URI":         steeple.CSR(t, key, ""),
		"covers":      steeple.CSR(t, key, "/minted", "*.example.org", "a.example.org"),
		"DNS":         steeple.CSR(t, key, "/minted", "a b"),
		"/spire":      steeple.CSR(t, key, "/spire/server"),
		"missing CSR": nil,
	} {
		_, err := client.MintX509SVID(within(t), &svidv1.MintX509SVIDRequest{Csr: csr})
		refused(t, err, codes.InvalidArgument, text)
	}
	csr[len(csr)-1] ^= 1
	_, err := client.MintX509SVID(within(t), &svidv1.MintX509SVIDRequest{Csr: csr})
	refused(t, err, codes.InvalidArgument, "CSR")

	token := must[*svidv1.MintJWTSVIDResponse](t)(client.MintJWTSVID(within(t),
		&svidv1.MintJWTSVIDRequest{Id: spiffeID("/minted"), Audience: []string{"a", "b"}, Ttl: 90}))
	claims := checkToken(t, server, token.Svid, "/minted", 90, "a", "b")
	equal(t, "iss", claims["iss"].(string), "https://issuer.test")
	equal(t, "jti", claims["jti"], nil)
	equal(t, "nbf", claims["nbf"], nil)
	_, err = client.MintJWTSVID(within(t), &svidv1.MintJWTSVIDRequest{Id: spiffeID("/minted")})
	refused(t, err, codes.InvalidArgument, "audience")
	_, err = client.MintJWTSVID(within(t), &svidv1.MintJWTSVIDRequest{Audience: []string{"a"}})
	refused(t, err, codes.InvalidArgument, "id")

	_, err = client.MintWITSVID(within(t), &svidv1.MintWITSVIDRequest{Id: spiffeID("/minted")})
	refused(t, err, codes.Unimplemented, "")
}

func TestAnAgentHasItsWorkloadsIdentitiesSigned(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	agent := joined(t, server)
	mine, other := entry("/mine", "uid:1"), entry("/other", "uid:1")
	mine.ParentId, mine.X509SvidTtl, mine.JwtSvidTtl = agent.id, 300, 60
	mine.DnsNames, mine.Hint = []string{"mine.test", "*.test"}, "here"
	mine.AdditionalAttributes = &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}
	created := create(t, server, mine, other)
	client := svidv1.NewSVIDClient(server.Connect(agent.Identity))
	key := steeple.NewKey(t)
	// What it asks for besides the key counts for nothing.
	csr := steeple.CSR(t, key, "/spire/server", "else.test")
	broken := slices.Clone(csr)
	broken[len(broken)-1] ^= 1
	answer := must[*svidv1.BatchNewX509SVIDResponse](t)(client.BatchNewX509SVID(within(t), &svidv1.BatchNewX509SVIDRequest{
		Params: []*svidv1.NewX509SVIDParams{
			{EntryId: created[0].Id, Csr: csr},
			{EntryId: created[1].Id, Csr: csr},
			{EntryId: "none", Csr: csr},
			{Csr: csr},
			{EntryId: created[0].Id},
			{EntryId: created[0].Id, Csr: broken},
		},
	})).Results
	item(t, answer[0].Status, codes.OK, "OK")
	leaf := checkSVID(t, server, answer[0].Svid, "/mine", key, 300)
	equal(t, "DNS names", strings.Join(leaf.DNSNames, " "), "mine.test *.test")
	equal(t, "common name", leaf.Subject.CommonName, "mine.test")
	equal(t, "hint", answer[0].Svid.Hint, "here")
	item(t, answer[1].Status, codes.NotFound, "entry not found or not authorized")
	item(t, answer[2].Status, codes.NotFound, "entry not found or not authorized")
	item(t, answer[3].Status, codes.InvalidArgument, "missing entry ID")
	item(t, answer[4].Status, codes.InvalidArgument, "CSR")
	item(t, answer[5].Status, codes.InvalidArgument, "CSR")
	for _, result := range answer[1:] {
		equal(t, "svid", result.Svid, nil)
	}
	_, err := client.BatchNewX509SVID(within(t), &svidv1.BatchNewX509SVIDRequest{})
	refused(t, err, codes.InvalidArgument, "missing parameters")

	token := must[*svidv1.NewJWTSVIDResponse](t)(
		client.NewJWTSVID(within(t), &svidv1.NewJWTSVIDRequest{EntryId: created[0].Id, Audience: []string{"a"}}))
	claims := checkToken(t, server, token.Svid, "/mine", 60, "a")
	equal(t, "hint", token.Svid.Hint, "here")
	if id, is := claims["jti"].(string); !is || id == "" {
		t.Errorf("no jti in %v", claims)
	}
	_, err = client.NewJWTSVID(within(t), &svidv1.NewJWTSVIDRequest{EntryId: created[1].Id, Audience: []string{"a"}})
	refused(t, err, codes.NotFound, "entry not found or not authorized")
	_, err = client.NewJWTSVID(within(t), &svidv1.NewJWTSVIDRequest{EntryId: created[0].Id})
	refused(t, err, codes.InvalidArgument, "audience")
	_, err = client.BatchNewWITSVID(within(t), &svidv1.BatchNewWITSVIDRequest{})
	refused(t, err, codes.Unimplemented, "")
}

// SPIRE's scenario `downstream-endpoints`.
func TestADownstreamServerHasAnAuthoritySigned(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	below := entry("/below", "uid:1")
	below.Downstream = true
	create(t, server, below, entry("/workload", "uid:1"))
	conn := server.Connect(server.Mint("/below"))
	key := steeple.NewKey(t)
	request := &svidv1.NewDownstreamX509CARequest{Csr: steeple.CSR(t, key, "/ignored"), PreferredTtl: 600}
	answer := must[*svidv1.NewDownstreamX509CAResponse](t)(svidv1.NewSVIDClient(conn).NewDownstreamX509CA(within(t), request))
	ca := must[*x509.Certificate](t)(x509.ParseCertificate(answer.CaCertChain[0]))
	equal(t, "CA", ca.IsCA, true)
	equal(t, "usage", ca.KeyUsage, x509.KeyUsageCertSign|x509.KeyUsageCRLSign)
	equal(t, "name", ca.URIs[0].String(), steeple.ID(""))
	equal(t, "unit", strings.Join(ca.Subject.OrganizationalUnit, " "), "DOWNSTREAM-1")
	equal(t, "key", key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(ca.PublicKey), true)
	soon(t, "CA", ca.NotAfter.Unix(), 600)
	equal(t, "roots", len(answer.X509Authorities), 1)
	root := must[*x509.Certificate](t)(x509.ParseCertificate(answer.X509Authorities[0]))
	steeple.Must(t, ca.CheckSignatureFrom(root))
	_, err := svidv1.NewSVIDClient(conn).NewDownstreamX509CA(within(t), &svidv1.NewDownstreamX509CARequest{})
	refused(t, err, codes.InvalidArgument, "CSR")

	published := jwtKey(t, "of-below")
	keys := must[*bundlev1.PublishJWTAuthorityResponse](t)(bundlev1.NewBundleClient(conn).PublishJWTAuthority(within(t),
		&bundlev1.PublishJWTAuthorityRequest{JwtAuthority: published})).JwtAuthorities
	equal(t, "keys", len(keys), 2)
	bundle := must[*types.Bundle](t)(bundlev1.NewBundleClient(server.Admin).GetBundle(within(t), &bundlev1.GetBundleRequest{}))
	equal(t, "keys in the bundle", len(bundle.JwtAuthorities), 2)
	for i, key := range keys {
		same(t, key, bundle.JwtAuthorities[i])
	}
	same(t, keys[slices.IndexFunc(keys, func(key *types.JWTKey) bool { return key.KeyId == "of-below" })], published)
	_, err = bundlev1.NewBundleClient(conn).PublishJWTAuthority(within(t), &bundlev1.PublishJWTAuthorityRequest{})
	refused(t, err, codes.InvalidArgument, "")
	_, err = bundlev1.NewBundleClient(conn).PublishWITAuthority(within(t), &bundlev1.PublishWITAuthorityRequest{})
	refused(t, err, codes.Unimplemented, "")

	workload := server.Connect(server.Mint("/workload"))
	_, err = svidv1.NewSVIDClient(workload).NewDownstreamX509CA(within(t), request)
	refused(t, err, codes.PermissionDenied, "authorization denied for method /spire.api.server.svid.v1.SVID/NewDownstreamX509CA")
	_, err = bundlev1.NewBundleClient(workload).PublishJWTAuthority(within(t), &bundlev1.PublishJWTAuthorityRequest{JwtAuthority: published})
	refused(t, err, codes.PermissionDenied, "authorization denied for method")
}
