package main

import (
	"net/http"
	"sync"
	"time"
)

// quiet is how long no request may be under way before memory is given back.
const quiet = 10 * time.Second

// givingBack has memory given back to the machine once nobody has asked for
// anything for a while: what a flood of sessions took, or a build.
func givingBack(next http.Handler, giveBack func()) http.Handler {
	var lock sync.Mutex
	var underWay int
	var giving *time.Timer
	count := func(by int) {
		lock.Lock()
		defer lock.Unlock()
		if giving != nil {
			giving.Stop()
		}
		if underWay += by; underWay == 0 {
			giving = time.AfterFunc(quiet, giveBack)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count(1)
		defer count(-1)
		next.ServeHTTP(w, r)
	})
}
