"""Looking at the running application: checks of our own, schemathesis, wapiti, and ZAP where there is one."""
