package main

import (
	"net/http"
	"sync"
	"time"
)

// quiet is how long no request may be pending before memory is released.
const quiet = 10 * time.Second

// givingBack returns the memory of builds or many sessions to the machine after a time without requests.
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
