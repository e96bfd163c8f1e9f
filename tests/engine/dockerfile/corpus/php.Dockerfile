FROM php:8.3-fpm AS app
ARG UID=1000
ARG GID=$UID
RUN set -eux; \
	apt-get update; \
	apt-get install -y --no-install-recommends \
		libzip-dev \
		unzip \
	; \
	docker-php-ext-install -j"$(nproc)" zip opcache; \
	rm -rf /var/lib/apt/lists/*
COPY --from=composer:2 /usr/bin/composer /usr/bin/composer
COPY --chown=www-data:www-data composer.json composer.lock /var/www/html/
COPY --chmod=0755 docker/entrypoint.sh /usr/local/bin/
ENV COMPOSER_HOME="/tmp/composer" PATH="/var/www/html/vendor/bin:$PATH"
ENTRYPOINT ["entrypoint.sh"]
CMD ["php-fpm"]
