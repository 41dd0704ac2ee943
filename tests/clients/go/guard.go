// Command guard is a resource server in Go: middleware that asks POST /v1/validate over the Unix socket.
//
// With REFRESH_TOKEN in the environment it is a client instead: golang.org/x/oauth2 refreshes an expired token at
// /oauth2/token, and the new pair is printed as JSON.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

type session struct {
	Active bool     `json:"active"`
	User   string   `json:"user_id"`
	Tenant string   `json:"tenant"`
	Roles  []string `json:"roles"`
	Stale  bool     `json:"stale"`
	Age    int      `json:"stale_for"`
}

var sessiond = http.Client{
	Timeout: 2 * time.Second,
	Transport: &http.Transport{
		MaxIdleConnsPerHost: 32,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", os.Getenv("SESSIOND_SOCKET"))
		},
	},
}

func validate(ctx context.Context, token string) (session, *http.Response, error) {
	var found session
	body, _ := json.Marshal(map[string]string{"token": token})
	request, err := http.NewRequestWithContext(ctx, "POST", "http://sessiond/v1/validate", bytes.NewReader(body))
	if err != nil {
		return found, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("KEY"))
	request.Header.Set("Content-Type", "application/json")
	answer, err := sessiond.Do(request)
	if err != nil {
		return found, nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		err = json.NewDecoder(answer.Body).Decode(&found)
	}
	return found, answer, err
}

func guard(next func(http.ResponseWriter, session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		found, answer, err := validate(r.Context(), token)
		switch {
		case err == nil && answer.StatusCode == http.StatusOK && found.Active:
			next(w, found)
		case err == nil && answer.StatusCode == http.StatusOK:
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		default: // nobody can tell now: a failure of the service, never of the caller
			status, after := http.StatusServiceUnavailable, "1"
			if err == nil && answer.StatusCode == http.StatusTooManyRequests {
				status = http.StatusTooManyRequests
			}
			if err == nil && answer.Header.Get("Retry-After") != "" {
				after = answer.Header.Get("Retry-After")
			}
			w.Header().Set("Retry-After", after)
			w.WriteHeader(status)
		}
	}
}

func refresh() error {
	config := oauth2.Config{ClientID: "app", Endpoint: oauth2.Endpoint{TokenURL: os.Getenv("SESSIOND_URL") + "/oauth2/token"}}
	expired := &oauth2.Token{RefreshToken: os.Getenv("REFRESH_TOKEN"), Expiry: time.Now().Add(-time.Hour)}
	pair, err := config.TokenSource(context.Background(), expired).Token()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(pair)
}

func main() {
	if os.Getenv("REFRESH_TOKEN") != "" {
		if err := refresh(); err != nil {
			json.NewEncoder(os.Stdout).Encode(map[string]string{"error": err.Error()})
		}
		return
	}
	handler := guard(func(w http.ResponseWriter, found session) {
		stale := ""
		if found.Stale {
			stale = strconv.Itoa(found.Age)
		}
		json.NewEncoder(w).Encode(map[string][][2]string{"headers": {
			{"X-Session-User", found.User}, {"X-Session-Tenant", found.Tenant},
			{"X-Session-Roles", strings.Join(found.Roles, ",")}, {"X-Session-Stale", stale}}})
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), handler))
}
