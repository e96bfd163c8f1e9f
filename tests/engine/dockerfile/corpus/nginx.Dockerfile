FROM node:20 AS site
WORKDIR /site
COPY . .
RUN npm run build

FROM nginx:1.27-alpine
COPY --from=site /site/dist /usr/share/nginx/html
COPY <<EOT /etc/nginx/conf.d/default.conf
server {
    listen 80;
    # keep this comment
    location / { try_files \$uri /index.html; }
}
EOT
EXPOSE 80 443/tcp
STOPSIGNAL SIGQUIT
VOLUME ["/var/cache/nginx", "/var/run"]
